//! Identities, fingerprints, safety numbers, prekeys.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hostchat_core::crypto::sign::SigningKey;
use hostchat_core::handshake::{IdentityKeys, PrekeySecret};
use hostchat_core::wire::{PrekeyKind, codec};

use super::doc::Doc;
use super::second::{Script, drawn, lv_cat, sha256, x25519_public};

/// The identity of a person of the vectors: its 64 secret bytes are drawn under two names.
pub(crate) fn person(names: [&'static str; 2]) -> IdentityKeys {
    IdentityKeys::generate(&mut Script::new(&names)).unwrap()
}

pub(crate) const ALICE: [&str; 2] = ["alice sign", "alice dh"];
pub(crate) const BOB: [&str; 2] = ["bob sign", "bob dh"];

/// The public identity once more, from the primitives: 128 bytes.
pub(crate) fn identity([sign, dh]: [&'static str; 2]) -> Vec<u8> {
    let key = SigningKey::from_bytes(drawn(sign, 32).try_into().unwrap());
    let public = x25519_public(&drawn(dh, 32));
    let message = lv_cat(&[b"hostchat/1 identity", &[1], &public]);
    let signature = key.danger_sign_bytes(&message);
    [&key.verifying_key().as_bytes()[..], &public, &signature].concat()
}

fn fingerprint(identity: &[u8]) -> [u8; 32] {
    let (sign, dh) = (&identity[..32], &identity[32..64]);
    sha256(&lv_cat(&[b"hostchat/1 fingerprint", &[1], sign, dh]))
}

fn digits(fingerprint: &[u8; 32]) -> String {
    let group = |bytes: &[u8]| {
        let number = bytes
            .iter()
            .fold(0u64, |number, byte| number * 256 + u64::from(*byte));
        format!("{:05}", number % 100_000)
    };
    fingerprint[..30].chunks(5).map(group).collect()
}

#[cfg_attr(test, test)]
pub(crate) fn identities() {
    let mut people = Vec::new();
    for names in [ALICE, BOB] {
        let keys = person(names);
        let identity = identity(names);
        assert_eq!(keys.public().to_bytes()[..], identity);
        assert_eq!(
            codec::encode_vec::<_, 128>(keys.public().claim()).unwrap(),
            identity[..]
        );
        assert_eq!(keys.public().fingerprint(), fingerprint(&identity));
        people.push(
            Doc::default()
                .hex("ed25519_seed", drawn(names[0], 32))
                .hex("x25519_private", drawn(names[1], 32))
                .hex("x25519_public", &identity[32..64])
                .hex(
                    "signed",
                    lv_cat(&[b"hostchat/1 identity", &[1], &identity[32..64]]),
                )
                .hex("identity", &identity)
                .hex("fingerprint", fingerprint(&identity)),
        );
    }
    let (alice, bob) = (fingerprint(&identity(ALICE)), fingerprint(&identity(BOB)));
    let (first, second) = if alice < bob {
        (alice, bob)
    } else {
        (bob, alice)
    };
    let number = digits(&first) + &digits(&second);
    assert_eq!(
        person(ALICE).public().safety_number(person(BOB).public()),
        number.as_str()
    );
    assert_eq!(
        person(BOB).public().safety_number(person(ALICE).public()),
        number.as_str()
    );
    Doc::about("Identities, fingerprints and the safety number of two (SPEC section 5).")
        .list("identities", people)
        .text("safety_number", &number)
        .check("identity");
}

/// A prekey from the primitives: the signed message and the encoded prekey, and the items of the transcript.
pub(crate) struct SecondPrekey {
    pub(crate) signed: Vec<u8>,
    pub(crate) encoded: Vec<u8>,
    /// kind ‖ id ‖ issued ‖ dh ‖ kem, as in the transcript of a first message.
    pub(crate) item: Vec<u8>,
}

pub(crate) fn prekey(
    owner: [&'static str; 2],
    kind: u8,
    id: u32,
    issued: u64,
    dh: &[u8],
    ek: &[u8],
) -> SecondPrekey {
    let identity = identity(owner);
    let key = SigningKey::from_bytes(drawn(owner[0], 32).try_into().unwrap());
    let (id_bytes, issued_bytes) = (id.to_be_bytes(), issued.to_be_bytes());
    let signed = lv_cat(&[
        b"hostchat/1 prekey",
        &[1],
        &identity[..32],
        &identity[32..64],
        &[kind],
        &id_bytes,
        &issued_bytes,
        dh,
        ek,
    ]);
    let signature = key.danger_sign_bytes(&signed);
    let encoded = [
        &[kind][..],
        &super::second::varint(u64::from(id)),
        &super::second::varint(issued),
        dh,
        ek,
        &signature,
    ]
    .concat();
    let item = [&[kind][..], &id_bytes, &issued_bytes, dh, ek].concat();
    SecondPrekey {
        signed,
        encoded,
        item,
    }
}

#[cfg_attr(test, test)]
pub(crate) fn prekeys() {
    let keys = person(BOB);
    let mut list = Vec::new();
    for (kind, byte, id, issued, names) in [
        (
            PrekeyKind::LastResort,
            1,
            7,
            1_800_000_000,
            ["bob last-resort dh", "bob last-resort kem"],
        ),
        (
            PrekeyKind::OneTime,
            0,
            300,
            1_800_000_001,
            ["bob one-time dh", "bob one-time kem"],
        ),
    ] {
        let mut script = Script::new(&names);
        let secret = PrekeySecret::generate(kind, id, issued, &mut script);
        let public = secret.public(&keys);
        let second = prekey(
            BOB,
            byte,
            id,
            issued,
            &x25519_public(&drawn(names[0], 32)),
            &public.kem.0,
        );
        assert_eq!(
            codec::encode_vec::<_, 2048>(&public).unwrap(),
            second.encoded[..]
        );
        let mut stored = [0; PrekeySecret::LEN];
        secret.store(&mut stored).unwrap();
        list.push(
            Doc::default()
                .number("kind", byte)
                .number("id", id)
                .number("issued", issued)
                .hex("x25519_private", drawn(names[0], 32))
                .hex("ml_kem_seed", drawn(names[1], 64))
                .hex("signed", &second.signed)
                .hex("prekey", &second.encoded)
                .hex("stored_secret", stored),
        );
    }
    Doc::about("Prekeys of the second identity (SPEC section 8.1).")
        .list("prekeys", list)
        .check("prekey");
}
