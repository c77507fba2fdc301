//! HMAC-SHA-256: Wycheproof, with each key brought to the 32 bytes of our interface.

use hostchat_core::crypto::hash::sha256;
use hostchat_core::crypto::label;
use hostchat_core::crypto::mac::{MacKey, derive, hmac_sha256, verify};
use hostchat_core::error::Error;

use super::{Counts, hex, json, wycheproof};

/// Gives the 32-byte key that HMAC treats as equal: short keys are padded with zeros, keys over a block are hashed.
fn equivalent(key: &[u8]) -> [u8; 32] {
    if key.len() > 64 {
        return sha256(&[key]);
    }
    let mut padded = [0; 32];
    padded[..key.len()].copy_from_slice(key);
    padded
}

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_hmac() {
    let mut counts = Counts::default();
    for (_, test) in wycheproof(&json("wycheproof/hmac_sha256_test.json")) {
        let (key, message, tag) = (
            equivalent(&hex(&test["key"])),
            hex(&test["msg"]),
            hex(&test["tag"]),
        );
        let (front, back) = message.split_at(message.len() / 3);
        let passed = match <&[u8; 32]>::try_from(tag.as_slice()) {
            Ok(tag) => verify(&key, &[front, back], tag).is_ok(),
            // Our interface has no short tags: the vectors with 16 bytes test the first half of the long one.
            Err(_) => hmac_sha256(&key, &[front, back])[..16] == tag,
        };
        counts.record(test, test["result"] == "valid", passed);
    }
    counts.finish("Wycheproof hmac_sha256", "", 66, 108, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn any_changed_bit_of_a_tag_is_refused() {
    let tag = hmac_sha256(&[1; 32], &[b"transcript"]);
    assert_eq!(verify(&[1; 32], &[b"trans", b"cript"], &tag), Ok(()));
    assert_eq!(
        verify(&[2; 32], &[b"transcript"], &tag),
        Err(Error::Authentication)
    );
    for bit in 0..256 {
        let mut changed = tag;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            verify(&[1; 32], &[b"transcript"], &changed),
            Err(Error::Authentication)
        );
    }
}

#[cfg_attr(test, test)]
pub(crate) fn chain_step_is_the_tag_over_the_label() {
    let key: MacKey = derive(&[4; 32], label::NEXT_CHAIN_KEY);
    assert_eq!(
        *key.expose_bytes(),
        hmac_sha256(&[4; 32], &[b"hostchat/1 next chain key"])
    );
}
