//! AES-CMAC: the crate behind AES-SIV, whose interface has no bare CMAC.

use alloc::vec::Vec;

use ::cmac::{Cmac, KeyInit, Mac};
use aes::{Aes128, Aes192, Aes256};

use super::{Counts, hex, json, wycheproof};

fn tag_with<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(key).expect("key length");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// Computes the tag, or `None` if AES has no such key length.
fn tag(key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    match key.len() {
        16 => Some(tag_with::<Cmac<Aes128>>(key, message)),
        24 => Some(tag_with::<Cmac<Aes192>>(key, message)),
        32 => Some(tag_with::<Cmac<Aes256>>(key, message)),
        _ => None,
    }
}

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_aes_cmac() {
    let mut counts = Counts::default();
    for (_, test) in wycheproof(&json("wycheproof/aes_cmac_test.json")) {
        let passed = tag(&hex(&test["key"]), &hex(&test["msg"])) == Some(hex(&test["tag"]));
        counts.record(test, test["result"] == "valid", passed);
    }
    counts.finish("Wycheproof aes_cmac", "", 63, 248, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc4493_examples() {
    let file = json("rfc/rfc4493_aes_cmac.json");
    let mut counts = Counts::default();
    for test in file["tests"].as_array().expect("tests") {
        counts.record(
            test,
            true,
            tag(&hex(&file["key"]), &hex(&test["msg"])) == Some(hex(&test["tag"])),
        );
    }
    counts.finish("RFC 4493", "", 4, 0, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn sp800_38b_examples() {
    let mut counts = Counts::default();
    for test in json("rfc/sp800_38b_aes_cmac.json")["tests"]
        .as_array()
        .expect("tests")
    {
        counts.record(
            test,
            true,
            tag(&hex(&test["key"]), &hex(&test["msg"])) == Some(hex(&test["tag"])),
        );
    }
    counts.finish("SP 800-38B", "", 12, 0, 0);
}
