//! X25519: Wycheproof and RFC 7748.

use alloc::string::ToString as _;

use hostchat_core::crypto::dh::{DhPublic, DhSecret};
use hostchat_core::error::{Error, Peer};

use super::{Counts, array, json, wycheproof};

#[cfg_attr(test, test)]
pub(crate) fn wycheproof_x25519() {
    let mut counts = Counts::default();
    for (_, test) in wycheproof(&json("wycheproof/x25519_test.json")) {
        let shared: [u8; 32] = array(&test["shared"]);
        let secret = DhSecret::from_bytes(array(&test["private"]));
        let agreed = secret.agree(&DhPublic::from_bytes(array(&test["public"])));
        match &agreed {
            Ok(secret) => assert_eq!(*secret.expose_bytes(), shared, "{test}"),
            Err(error) => assert_eq!(*error, Error::PeerMisbehaved(Peer::AllZeroShared)),
        }
        // "acceptable" covers twist points and non-canonical encodings, which RFC 7748 takes, and the zero results.
        counts.record(test, shared != [0; 32], agreed.is_ok());
    }
    counts.finish("Wycheproof x25519 (invalid = zero result)", "", 487, 31, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn rfc7748_examples() {
    let file = json("rfc/rfc7748_x25519.json");
    let mut counts = Counts::default();
    for test in file["scalarmult"].as_array().expect("tests") {
        let secret = DhSecret::from_bytes(array(&test["k"]));
        let shared = secret
            .agree(&DhPublic::from_bytes(array(&test["u"])))
            .expect("a good point");
        counts.record(
            test,
            true,
            *shared.expose_bytes() == array::<32>(&test["out"]),
        );
    }

    let mut base = [0; 32];
    base[0] = 9;
    let (mut k, mut u) = (base, base);
    for round in 1..=1000_u32 {
        let shared = DhSecret::from_bytes(k)
            .agree(&DhPublic::from_bytes(u))
            .expect("a good point");
        (k, u) = (*shared.expose_bytes(), k);
        if let Some(expected) = file["iterated"].get(round.to_string()) {
            counts.record(expected, true, k == array::<32>(expected));
        }
    }
    // The millionth round of the RFC takes minutes and belongs to a nightly run; the data file stops at 1,000.
    counts.finish("RFC 7748 (2 products; iterations 1 and 1,000)", "", 4, 0, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn public_key_is_the_product_with_the_base_point() {
    let mut base = [0; 32];
    base[0] = 9;
    for seed in 1..=64 {
        let secret = DhSecret::from_bytes([seed; 32]);
        let shared = secret
            .agree(&DhPublic::from_bytes(base))
            .expect("the base point is good");
        assert_eq!(secret.public().as_bytes(), shared.expose_bytes());
    }
}

#[cfg_attr(test, test)]
pub(crate) fn low_order_points_are_refused_for_every_secret() {
    // The points of order 1, 2, 4 and 8 on the curve and its twist, and their non-canonical encodings.
    let p = |low: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    };
    let small = |low: u8| {
        let mut bytes = [0; 32];
        bytes[0] = low;
        bytes
    };
    let order8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let order8 = order8.map(|text| array(&serde_json::Value::from(text)));
    let points = [
        small(0),
        small(1),
        p(0xec),
        p(0xed),
        p(0xee),
        order8[0],
        order8[1],
    ];
    for mut point in points {
        for top_bit in [0, 0x80] {
            point[31] = point[31] & 0x7f | top_bit;
            for seed in 0..8 {
                let agreed = DhSecret::from_bytes([seed; 32]).agree(&DhPublic::from_bytes(point));
                assert_eq!(
                    agreed.err(),
                    Some(Error::PeerMisbehaved(Peer::AllZeroShared)),
                    "{point:x?}"
                );
            }
        }
    }
}

#[cfg_attr(test, test)]
pub(crate) fn public_key_is_32_raw_bytes_on_the_wire() {
    let public = DhSecret::from_bytes([3; 32]).public();
    let mut buf = [0; 64];
    let used = postcard::to_slice(&public, &mut buf).expect("fits");
    assert_eq!(used, public.as_bytes());
    assert_eq!(
        postcard::from_bytes::<DhPublic>(used).expect("decodes"),
        public
    );
}
