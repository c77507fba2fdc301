//! Ed25519, strict: Wycheproof, RFC 8032, the edge cases of CCTV, and keys that must not be learnt.

use alloc::vec::Vec;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use hostchat_core::crypto::sign::{MAX_ITEMS, SigningKey, VerifyingKey};
use hostchat_core::error::{Error, Misuse, Peer};

use super::{Counts, array, hex, json, wycheproof};

/// Learns the key and verifies, as a receiver does; a signature of another length is refused by its type.
fn verifies(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = signature.try_into() else {
        return false;
    };
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.danger_verify_bytes(message, signature))
        .is_ok()
}

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_ed25519() {
    let mut counts = Counts::default();
    for (group, test) in wycheproof(&json("wycheproof/ed25519_test.json")) {
        let passed = verifies(
            &array(&group["publicKey"]["pk"]),
            &hex(&test["msg"]),
            &hex(&test["sig"]),
        );
        counts.record(test, test["result"] == "valid", passed);
    }
    counts.finish("Wycheproof ed25519", "", 88, 63, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc8032_examples() {
    let mut counts = Counts::default();
    for test in json("rfc/rfc8032_ed25519.json").as_array().expect("tests") {
        let key = SigningKey::from_bytes(array(&test["secretKey"]));
        let public = array(&test["publicKey"]);
        let (message, signature) = (hex(&test["message"]), array(&test["signature"]));
        assert_eq!(*key.verifying_key().as_bytes(), public);
        assert_eq!(key.danger_sign_bytes(&message), signature);
        counts.record(test, true, verifies(&public, &message, &signature));
    }
    counts.finish("RFC 8032", "", 5, 0, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn cctv_edge_cases() {
    let (mut counts, mut crate_alone) = (Counts::default(), 0);
    for test in json("cctv/ed25519vectors.json").as_array().expect("tests") {
        let message = test["msg"].as_str().expect("text").as_bytes();
        let passed = verifies(&array(&test["key"]), message, &hex(&test["sig"]));
        crate_alone += usize::from(
            ed25519_dalek::VerifyingKey::from_bytes(&array(&test["key"]))
                .and_then(|key| key.verify_strict(message, &array(&test["sig"]).into()))
                .is_ok(),
        );
        // Every flag names something that a strict verifier with torsion-free keys refuses.
        let flawless = test["flags"].as_array().is_none_or(Vec::is_empty);
        counts.record(test, flawless, passed);
    }
    println!("CCTV ed25519: verify_strict of the crate alone accepts {crate_alone}");
    assert_eq!(crate_alone, 43);
    counts.finish("CCTV ed25519", "", 1, 913, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn small_order_torsioned_and_non_canonical_keys_are_refused() {
    let bad_point = Error::PeerMisbehaved(Peer::BadPoint);
    let mut counts = Counts::default();
    for torsion in EIGHT_TORSION {
        let encoded = torsion.compress().to_bytes();
        assert_eq!(VerifyingKey::from_bytes(&encoded).err(), Some(bad_point));
        counts.invalid += 1;
    }
    for scalar in 1..=32_u64 {
        let good = ED25519_BASEPOINT_POINT * Scalar::from(scalar);
        assert!(VerifyingKey::from_bytes(&good.compress().to_bytes()).is_ok());
        counts.valid += 1;
        for torsion in &EIGHT_TORSION[1..] {
            let encoded = (good + torsion).compress().to_bytes();
            assert_eq!(
                VerifyingKey::from_bytes(&encoded).err(),
                Some(Error::PeerMisbehaved(Peer::TorsionedKey))
            );
            counts.invalid += 1;
        }
    }
    // y in p..2^255, that is 0..19 written as y + p, with either sign of x: the decoder reduces most of them silently.
    let mut decodable = 0;
    for low in 0xed..=0xff_u8 {
        for top in [0x7f, 0xff] {
            let mut encoded = [0xff; 32];
            (encoded[0], encoded[31]) = (low, top);
            decodable += usize::from(ed25519_dalek::VerifyingKey::from_bytes(&encoded).is_ok());
            assert_eq!(VerifyingKey::from_bytes(&encoded).err(), Some(bad_point));
            counts.invalid += 1;
        }
    }
    assert!(decodable > 10, "the crate alone would have let these pass");
    // x = 0 with the sign bit set: y = 1 and y = -1.
    for y in [1, 0xec] {
        let mut encoded = if y == 1 { [0; 32] } else { [0xff; 32] };
        (encoded[0], encoded[31]) = (y, if y == 1 { 0x80 } else { 0xff });
        assert_eq!(VerifyingKey::from_bytes(&encoded).err(), Some(bad_point));
        counts.invalid += 1;
    }
    counts.finish(
        "Ed25519 keys (8 small, 224 torsioned, 40 not canonical)",
        "",
        32,
        272,
        0,
    );
}

#[cfg_attr(test, test)]
pub(crate) fn signature_covers_the_border_of_each_item() {
    let key = SigningKey::from_bytes([5; 32]);
    let public = key.verifying_key();
    let signature = key.sign(&[b"label", b"", b"field"]);
    assert_eq!(
        public.verify(&[b"label", b"", b"field"], &signature),
        Ok(())
    );
    // The message is lv_cat(items), nothing else.
    assert_eq!(
        public.danger_verify_bytes(b"\x05label\x00\x05field", &signature),
        Ok(())
    );
    let others: [&[&[u8]]; 6] = [
        &[b"label", b"field"],
        &[b"label", b"", b"field", b""],
        &[b"labelfield"],
        &[b"label", b"f", b"ield"],
        &[b"field", b"", b"label"],
        &[],
    ];
    for other in others {
        assert_eq!(public.verify(other, &signature), Err(Error::Authentication));
    }
    for bit in 0..512 {
        let mut changed = signature;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            public.verify(&[b"label", b"", b"field"], &changed),
            Err(Error::Authentication)
        );
    }
}

#[cfg_attr(test, test)]
pub(crate) fn items_up_to_the_maximum_are_signed_and_more_are_refused() {
    let key = SigningKey::from_bytes([6; 32]);
    let long = [0x33; 1300];
    let items = [long.as_slice(); MAX_ITEMS + 1];
    let signature = key.sign(&items[..MAX_ITEMS]);
    assert_eq!(
        key.verifying_key().verify(&items[..MAX_ITEMS], &signature),
        Ok(())
    );
    assert_eq!(
        key.verifying_key().verify(&items[1..MAX_ITEMS], &signature),
        Err(Error::Authentication)
    );
    assert_eq!(
        key.verifying_key().verify(&items, &signature),
        Err(Error::ApiMisuse(Misuse::TooManyItems))
    );
}
