//! AES-SIV: Wycheproof and RFC 5297.

use alloc::vec::Vec;

use hostchat_core::crypto::siv::{MAX_AD, SivKey, TAG_LEN, danger_seal_aes128};
use hostchat_core::error::{Decode, Error, Misuse};

use super::{Counts, array, hex, json, wycheproof};

/// Seals and compares if the vector is valid; opens in any case.
fn agrees(key: &SivKey, ad: &[&[u8]], plain: &[u8], sealed: &[u8]) -> bool {
    let (tag, ciphertext) = sealed.split_first_chunk::<TAG_LEN>().expect("a tag");
    let mut buf = ciphertext.to_vec();
    let opened = key.open_in_place(ad, &mut buf, tag);
    if opened.is_err() {
        assert_eq!(opened, Err(Error::Authentication));
        assert!(
            buf.iter().all(|byte| *byte == 0),
            "unverified plaintext is left"
        );
        return false;
    }
    assert_eq!(buf, plain);
    assert_eq!(key.seal_in_place(ad, &mut buf), *tag);
    assert_eq!(buf, ciphertext);
    true
}

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_aes_siv_cmac() {
    let mut counts = Counts::default();
    for (group, test) in wycheproof(&json("wycheproof/aes_siv_cmac_test.json")) {
        if group["keySize"] != 512 {
            counts.skipped += 1;
            continue;
        }
        let key = SivKey::from_bytes(array(&test["key"]));
        let passed = agrees(
            &key,
            &[&hex(&test["aad"])],
            &hex(&test["msg"]),
            &hex(&test["ct"]),
        );
        counts.record(test, test["result"] == "valid", passed);
    }
    let why = "suite 1 has 512-bit keys only";
    counts.finish("Wycheproof aes_siv_cmac", why, 39, 108, 295);
}

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_aead_aes_siv_cmac() {
    let mut counts = Counts::default();
    for (group, test) in wycheproof(&json("wycheproof/aead_aes_siv_cmac_test.json")) {
        if group["keySize"] != 512 {
            counts.skipped += 1;
            continue;
        }
        let key = SivKey::from_bytes(array(&test["key"]));
        let sealed = [hex(&test["tag"]), hex(&test["ct"])].concat();
        // RFC 5297 section 6: the nonce is the last string of associated data.
        let passed = agrees(
            &key,
            &[&hex(&test["aad"]), &hex(&test["iv"])],
            &hex(&test["msg"]),
            &sealed,
        );
        counts.record(test, test["result"] == "valid", passed);
    }
    let why = "suite 1 has 512-bit keys only";
    counts.finish("Wycheproof aead_aes_siv_cmac", why, 84, 216, 600);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc5297_examples() {
    let mut counts = Counts::default();
    for test in json("rfc/rfc5297_aes_siv.json")["tests"]
        .as_array()
        .expect("tests")
    {
        let key: [u8; 32] = array(&test["key"]);
        let (halves, _) = key.as_chunks::<16>();
        let ad: Vec<Vec<u8>> = test["ad"].as_array().expect("ad").iter().map(hex).collect();
        let ad: Vec<&[u8]> = ad.iter().map(Vec::as_slice).collect();
        let mut buf = hex(&test["plaintext"]);
        let tag = danger_seal_aes128(halves.first_chunk().expect("two halves"), &ad, &mut buf);
        counts.record(
            test,
            true,
            tag == array(&test["siv"]) && buf == hex(&test["ciphertext"]),
        );
    }
    counts.finish("RFC 5297 (AES-128, same code)", "", 2, 0, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn any_changed_bit_is_refused_and_the_buffer_is_wiped() {
    let key = SivKey::from_bytes([7; 64]);
    let ad: [&[u8]; 2] = [b"header", b"message id"];
    let plain = [0x5a; 37];
    let mut sealed = plain;
    let tag = key.seal_in_place(&ad, &mut sealed);

    let mut refused = 0;
    for bit in 0..(plain.len() + TAG_LEN) * 8 {
        let (mut buf, mut tag) = (sealed, tag);
        match buf.get_mut(bit / 8) {
            Some(byte) => *byte ^= 1 << (bit % 8),
            None => tag[bit / 8 - plain.len()] ^= 1 << (bit % 8),
        }
        assert_eq!(
            key.open_in_place(&ad, &mut buf, &tag),
            Err(Error::Authentication)
        );
        assert_eq!(buf, [0; 37]);
        refused += 1;
    }
    let others: [&[&[u8]]; 7] = [
        &[],
        &[b"header"],
        &[b"message id", b"header"],
        &[b"header", b"message id", b""],
        &[b"headermessage id"],
        &[b"headerm", b"essage id"],
        &[b"header", b"message iD"],
    ];
    for other in others {
        let mut buf = sealed;
        assert_eq!(
            key.open_in_place(other, &mut buf, &tag),
            Err(Error::Authentication)
        );
        assert_eq!(buf, [0; 37]);
        refused += 1;
    }
    println!("AES-256-SIV: {refused} changed inputs refused, buffer wiped each time");
}

#[cfg_attr(test, test)]
pub(crate) fn more_than_126_strings_are_refused() {
    let key = SivKey::from_bytes([7; 64]);
    let ad = [b"x".as_slice(); MAX_AD + 1];
    let mut buf = *b"plain text";
    let tag = key.seal_in_place(&ad[..MAX_AD], &mut buf);
    assert_eq!(key.open_in_place(&ad[..MAX_AD], &mut buf, &tag), Ok(()));
    assert_eq!(&buf, b"plain text");
    assert_eq!(
        key.open_in_place(&ad, &mut buf, &tag),
        Err(Error::ApiMisuse(Misuse::TooManyItems))
    );
    assert_eq!(buf, [0; 10]);
    let mut out = heapless::Vec::<u8, 64>::new();
    assert_eq!(
        key.seal_vec(&ad, b"x", &mut out),
        Err(Error::ApiMisuse(Misuse::TooManyItems))
    );
    assert!(out.is_empty());
}

#[cfg_attr(test, test)]
pub(crate) fn vectors_are_appended_or_left_unchanged() {
    let key = SivKey::from_bytes([9; 64]);
    let mut sealed = heapless::Vec::<u8, 32>::from_slice(b"head").expect("fits");
    key.seal_vec(&[b"ad"], b"twelve bytes", &mut sealed)
        .expect("4 + 16 + 12 fit exactly");
    assert_eq!(sealed.len(), 32);
    let mut buf = *b"twelve bytes";
    let tag = key.seal_in_place(&[b"ad"], &mut buf);
    assert_eq!(sealed[4..], [&tag[..], &buf].concat());

    let mut plain = heapless::Vec::<u8, 32>::from_slice(b"kept").expect("fits");
    assert_eq!(
        key.open_vec(&[b"aD"], &sealed[4..], &mut plain),
        Err(Error::Authentication)
    );
    assert_eq!(
        key.open_vec(&[b"ad"], &sealed[4..19], &mut plain),
        Err(Error::Decode(Decode::Truncated))
    );
    assert_eq!(plain, b"kept");
    assert_eq!(key.open_vec(&[b"ad"], &sealed[4..], &mut plain), Ok(()));
    assert_eq!(plain, b"kepttwelve bytes");

    let before = sealed.clone();
    assert_eq!(
        key.seal_vec(&[], b"", &mut sealed),
        Err(Error::ApiMisuse(Misuse::BufferTooSmall))
    );
    assert_eq!(sealed, before);
    let mut small = heapless::Vec::<u8, 11>::new();
    assert_eq!(
        key.open_vec(&[b"ad"], &sealed[4..], &mut small),
        Err(Error::ApiMisuse(Misuse::BufferTooSmall))
    );
    assert!(small.is_empty());
}
