//! ML-KEM-768: Wycheproof, an encapsulation of CCTV, and the modulus check at every coefficient.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hostchat_core::crypto::kem::{
    CIPHERTEXT_LEN, ENCAPSULATION_KEY_LEN, KemSecret, danger_encapsulate_with, encapsulate,
};
use hostchat_core::error::{Error, Peer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::{Counts, hex, json, text, wycheproof};

/// The modulus q of FIPS 203.
const Q: u16 = 3329;

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_mlkem_768() {
    let mut counts = Counts::default();
    for (_, test) in wycheproof(&json("wycheproof/mlkem_768_test.json")) {
        // A seed or ciphertext of another length is refused by its type: the interface takes arrays.
        let seed = KemSecret::from_slice(&hex(&test["seed"]));
        let ciphertext = <[u8; CIPHERTEXT_LEN]>::try_from(hex(&test["c"]));
        let mut passed = false;
        if let (Ok(secret), Ok(ciphertext)) = (seed, ciphertext) {
            assert_eq!(
                secret.encapsulation_key().to_vec(),
                hex(&test["ek"]),
                "{}",
                test["tcId"]
            );
            passed = secret.decapsulate(&ciphertext).expose_bytes().to_vec() == hex(&test["K"]);
        }
        counts.record(&test["tcId"], test["result"] == "valid", passed);
    }
    counts.finish("Wycheproof mlkem_768", "", 153, 40, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn cctv_encapsulation() {
    let file = text("core/tests/vectors/public/cctv/ML-KEM-768-unluckysample.txt");
    let fields: BTreeMap<&str, Vec<u8>> = file
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| (name, hex::decode(value).expect("hex")))
        .collect();
    let ek = fields["ek"].as_slice().try_into().expect("length");
    let m = fields["m"].as_slice().try_into().expect("length");
    let (ciphertext, shared) = danger_encapsulate_with(ek, m).expect("a good key");
    let mut counts = Counts::default();
    let passed = ciphertext[..] == fields["c"] && shared.expose_bytes()[..] == fields["K"];
    counts.record(&"unlucky sample".into(), true, passed);
    counts.finish("CCTV ML-KEM-768 unlucky sample", "", 1, 0, 0);
}

/// Reads or writes coefficient `index` of an encapsulation key: 12 bits each, little-endian.
fn coefficient(key: &mut [u8; ENCAPSULATION_KEY_LEN], index: usize, set: Option<u16>) -> u16 {
    let at = index / 2 * 3;
    let pair = u32::from_le_bytes([key[at], key[at + 1], key[at + 2], 0]);
    let shift = index % 2 * 12;
    let old = (pair >> shift) & 0xfff;
    if let Some(new) = set {
        let pair = pair & !(0xfff << shift) | u32::from(new) << shift;
        key[at..at + 3].copy_from_slice(&pair.to_le_bytes()[..3]);
    }
    u16::try_from(old).expect("12 bits")
}

#[cfg_attr(test, test)]
pub(crate) fn coefficients_of_the_modulus_or_more_are_refused() {
    let good = KemSecret::from_bytes([8; 64]).encapsulation_key();
    let mut counts = Counts::default();
    for index in 0..768 {
        let mut key = good;
        assert!(coefficient(&mut key, index, None) < Q);
        for (value, should_pass) in [(Q - 1, true), (Q, false), (0xfff, false)] {
            coefficient(&mut key, index, Some(value));
            assert_eq!(coefficient(&mut key, index, None), value);
            let result = danger_encapsulate_with(&key, &[1; 32]);
            if let Err(error) = &result {
                assert_eq!(*error, Error::PeerMisbehaved(Peer::BadEncapsulationKey));
            }
            counts.record(&index.into(), should_pass, result.is_ok());
        }
    }
    counts.finish(
        "ML-KEM-768 modulus check (FIPS 203 section 7.2)",
        "",
        768,
        1536,
        0,
    );
}

#[cfg_attr(test, test)]
pub(crate) fn both_ends_agree_and_a_forged_ciphertext_gives_an_unrelated_secret() {
    let mut rng = ChaCha20Rng::seed_from_u64(203);
    for _ in 0..50 {
        let secret = KemSecret::generate(&mut rng);
        let key = secret.encapsulation_key();
        let (mut ciphertext, sent) = encapsulate(&key, &mut rng).expect("a good key");
        let received = secret.decapsulate(&ciphertext);
        assert_eq!(sent.expose_bytes(), received.expose_bytes());

        ciphertext[CIPHERTEXT_LEN / 2] ^= 1;
        let rejected = secret.decapsulate(&ciphertext);
        assert_ne!(sent.expose_bytes(), rejected.expose_bytes());
        assert!(
            secret.decapsulate(&ciphertext).ct_eq(&rejected),
            "rejection is deterministic"
        );

        let (again, other) = encapsulate(&key, &mut rng).expect("a good key");
        assert!(
            again != ciphertext && !other.ct_eq(&sent),
            "each encapsulation is fresh"
        );
    }
}
