//! ristretto255 (RFC 9496), the group under CPace: the crate behind it.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest as _, Sha512};

use super::{Counts, array, json};

#[cfg_attr(test, test)]
pub(crate) fn rfc9496_small_multiples() {
    let file = json("ristretto255/rfc9496_ristretto255.json");
    let mut counts = Counts::default();
    for (factor, encoded) in (0_u64..).zip(file["small_multiples"].as_array().expect("multiples")) {
        let point = RISTRETTO_BASEPOINT_POINT * Scalar::from(factor);
        let decoded = CompressedRistretto(array(encoded)).decompress();
        counts.record(
            encoded,
            true,
            point.compress().0 == array(encoded) && decoded == Some(point),
        );
    }
    counts.finish("RFC 9496 small multiples", "", 16, 0, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc9496_bad_encodings() {
    let file = json("ristretto255/rfc9496_ristretto255.json");
    let mut counts = Counts::default();
    for encoded in file["bad_encodings"].as_array().expect("encodings") {
        counts.record(
            encoded,
            false,
            CompressedRistretto(array(encoded)).decompress().is_some(),
        );
    }
    counts.finish("RFC 9496 bad encodings", "", 0, 29, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc9496_map_from_uniform_bytes() {
    let file = json("ristretto255/rfc9496_ristretto255.json");
    let map = |uniform: &[u8; 64]| RistrettoPoint::from_uniform_bytes(uniform).compress().0;
    let mut counts = Counts::default();
    for test in file["from_uniform"].as_array().expect("maps") {
        let label = test["label"].as_str().expect("label");
        assert_eq!(Sha512::digest(label)[..], array::<64>(&test["uniform"]));
        counts.record(
            test,
            true,
            map(&array(&test["uniform"])) == array(&test["element"]),
        );
    }
    let equivalent = &file["equivalent_uniform"];
    for input in equivalent["inputs"].as_array().expect("inputs") {
        counts.record(
            input,
            true,
            map(&array(input)) == array(&equivalent["element"]),
        );
    }
    counts.finish("RFC 9496 maps from uniform bytes", "", 11, 0, 0);
}
