//! HKDF-SHA-256: Wycheproof and RFC 5869.

use alloc::vec;

use hostchat_core::crypto::kdf::{Prk, hkdf};
use hostchat_core::crypto::label;
use hostchat_core::crypto::siv::SivKey;
use hostchat_core::error::{Error, Misuse};

use super::{Counts, array, hex, json, wycheproof};

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_hkdf() {
    let mut counts = Counts::default();
    for (_, test) in wycheproof(&json("wycheproof/hkdf_sha256_test.json")) {
        let ikm = hex(&test["ikm"]);
        let size = usize::try_from(test["size"].as_u64().expect("size")).expect("size");
        let mut okm = vec![0; size];
        // The key material goes in as two parts, which must make no difference.
        let (front, back) = ikm.split_at(ikm.len() / 2);
        let prk = Prk::extract(&hex(&test["salt"]), &[front, back]);
        let expanded = prk.danger_expand_bytes(&hex(&test["info"]), &mut okm);
        if let Err(error) = expanded {
            assert_eq!(error, Error::ApiMisuse(Misuse::BadArgument));
        } else {
            assert_eq!(okm, hex(&test["okm"]), "{test}");
        }
        counts.record(test, test["result"] == "valid", expanded.is_ok());
    }
    counts.finish("Wycheproof hkdf_sha256", "", 83, 3, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc5869_examples() {
    let mut counts = Counts::default();
    for test in json("rfc/rfc5869_hkdf.json")["tests"]
        .as_array()
        .expect("tests")
    {
        let prk = Prk::extract(&hex(&test["salt"]), &[&hex(&test["ikm"])]);
        assert_eq!(*prk.expose_bytes(), array::<32>(&test["prk"]));
        let expected = hex(&test["okm"]);
        let mut okm = vec![0; expected.len()];
        prk.danger_expand_bytes(&hex(&test["info"]), &mut okm)
            .expect("short enough");
        counts.record(test, true, okm == expected);
    }
    counts.finish("RFC 5869 (SHA-256)", "", 3, 0, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn typed_expansion_is_expansion_with_the_label_as_info() {
    let prk = Prk::extract(b"salt", &[b"key material"]);
    let mut bytes = [0; 64];
    prk.danger_expand_bytes(b"hostchat/1 message siv", &mut bytes)
        .expect("short enough");
    assert_eq!(
        *prk.expand::<SivKey>(label::MESSAGE_SIV).expose_bytes(),
        bytes
    );
    assert_eq!(
        *hkdf::<SivKey>(b"salt", &[b"key ", b"material"], label::MESSAGE_SIV).expose_bytes(),
        bytes
    );
    assert_eq!(prk.expand::<[u8; 16]>(label::MESSAGE_SIV), bytes[..16]);
    assert_ne!(prk.expand::<[u8; 16]>(label::PAIR_SESSION_ID), bytes[..16]);
}
