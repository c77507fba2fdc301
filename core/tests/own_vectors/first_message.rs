//! First messages without a code, with and without a one-time prekey.

use alloc::vec;
use alloc::vec::Vec;

use hostchat_core::crypto::kem::{KemSecret, danger_encapsulate_with};
use hostchat_core::handshake::{PrekeySecret, first};
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{Address, Envelope, EnvelopeBytes, PrekeyBundle, PrekeyKind, codec};

use super::doc::Doc;
use super::identity::{ALICE, BOB, identity, person, prekey};
use super::second::{
    Script, array, drawn, expand, extract, header, lv, lv_cat, seal_frame, sha256, varint, x25519,
    x25519_public,
};

const ADDRESS_A: &str = "alice@relay.example:7443";
const ADDRESS_B: &str = "bob@other.example:443";
const NOW: u64 = 1_800_000_002;
/// Id and time of the prekeys of prekey.json.
const LAST_RESORT: (u32, u64) = (7, 1_800_000_000);
const ONE_TIME: (u32, u64) = (300, 1_800_000_001);
const FIRST: &[u8] = b"hello, it is me";

/// What the crate says: Alice's envelope and the replay mark.
fn run(with_one_time: bool) -> (Vec<u8>, [u8; 32], Doc) {
    let (alice, bob) = (person(ALICE), person(BOB));
    let (a, b) = (
        Address::parse(ADDRESS_A).unwrap(),
        Address::parse(ADDRESS_B).unwrap(),
    );
    let secret = |kind, (id, issued), names: [&'static str; 2]| {
        PrekeySecret::generate(kind, id, issued, &mut Script::new(&names))
    };
    let last_resort = secret(
        PrekeyKind::LastResort,
        LAST_RESORT,
        ["bob last-resort dh", "bob last-resort kem"],
    );
    let one_time = with_one_time.then(|| {
        secret(
            PrekeyKind::OneTime,
            ONE_TIME,
            ["bob one-time dh", "bob one-time kem"],
        )
    });
    let bundle = PrekeyBundle {
        identity: *bob.public().claim(),
        last_resort: last_resort.public(&bob),
        one_time: one_time.as_ref().map(|prekey| prekey.public(&bob)),
    };
    let mut rng = Script::new(&[
        "first ephemeral",
        "first encapsulation",
        "first ratchet",
        "first message id",
    ]);
    let (mut session, mut session_b) = (Session::empty(), Session::empty());
    first::start(
        &alice,
        &a,
        &b,
        bob.public(),
        &bundle,
        NOW,
        &mut session,
        &mut rng,
    )
    .unwrap();
    let mut envelope = EnvelopeBytes::new();
    session.seal(FIRST, &mut rng, &mut envelope).unwrap();
    let Ok(Envelope::First { header, frame }) = codec::decode(&envelope) else {
        panic!("first message")
    };
    let mut plain = Plaintext::new();
    let accepted = first::accept(
        &bob,
        &b,
        &header,
        &last_resort,
        one_time.as_ref(),
        frame,
        &mut session_b,
        &mut plain,
    )
    .unwrap();
    assert_eq!(plain, FIRST);
    (envelope.to_vec(), accepted.mark, rng.into_doc())
}

/// X25519 and ML-KEM public key of a prekey that is drawn under two names.
type PublicKeys = ([u8; 32], [u8; 1184]);

fn last_resort() -> PublicKeys {
    public_keys(["bob last-resort dh", "bob last-resort kem"])
}

fn one_time() -> PublicKeys {
    public_keys(["bob one-time dh", "bob one-time kem"])
}

fn public_keys([dh, kem]: [&str; 2]) -> PublicKeys {
    (
        x25519_public(&drawn(dh, 32)),
        KemSecret::from_bytes(array(kem)).encapsulation_key(),
    )
}

fn case(with_one_time: bool) -> Doc {
    let (envelope, mark, random) = run(with_one_time);
    let (id_a, id_b) = (identity(ALICE), identity(BOB));
    let e = drawn("first ephemeral", 32);
    let ((sp, sp_ek), (op, op_ek)) = (last_resort(), one_time());
    let sp_item = prekey(BOB, 1, LAST_RESORT.0, LAST_RESORT.1, &sp, &sp_ek).item;
    let op_item = prekey(BOB, 0, ONE_TIME.0, ONE_TIME.1, &op, &op_ek).item;
    let ek = if with_one_time { &op_ek } else { &sp_ek };
    let (ct, ss) = danger_encapsulate_with(ek, &array("first encapsulation")).unwrap();

    let one_time_id = if with_one_time {
        [&[1][..], &varint(u64::from(ONE_TIME.0))].concat()
    } else {
        vec![0]
    };
    let first_header = [
        &[1][..],
        &id_a,
        &lv(ADDRESS_A.as_bytes()),
        &lv(ADDRESS_B.as_bytes()),
        &varint(u64::from(LAST_RESORT.0)),
        &one_time_id,
        &x25519_public(&e),
        &ct,
    ]
    .concat();
    let mut items: Vec<&[u8]> = vec![b"hostchat/1 first th", &first_header, &id_b, &sp_item];
    if with_one_time {
        items.push(&op_item);
    }
    let th = sha256(&lv_cat(&items));
    let dh = [
        x25519(&drawn("alice dh", 32), &sp),
        x25519(&e, &id_b[32..64]),
        x25519(&e, &sp),
    ];
    let dh4 = if with_one_time {
        x25519(&e, &op).to_vec()
    } else {
        Vec::new()
    };
    let prk = extract(&th, &[&dh[0], &dh[1], &dh[2], &dh4, ss.expose_bytes()]);
    let rk0: [u8; 32] = expand(&prk, "hostchat/1 first root");
    let ck0: [u8; 32] = expand(&prk, "hostchat/1 first chain");
    let session: [u8; 16] = expand(&prk, "hostchat/1 first session id");
    let ratchet_key = x25519_public(&drawn("first ratchet", 32));
    let sealed = seal_frame(
        &ck0,
        &header(&session, &ratchet_key, 0, 0),
        &array("first message id"),
        FIRST,
    );
    let second = [
        &[5][..],
        &first_header,
        &varint(sealed.frame.len() as u64),
        &sealed.frame,
    ]
    .concat();
    assert_eq!(envelope, second);
    assert_eq!(
        mark,
        sha256(&lv_cat(&[b"hostchat/1 first mark", &first_header]))
    );

    Doc::default()
        .map("random", random)
        .hex("first_header", &first_header)
        .hex("mark", mark)
        .hex("dh1", dh[0])
        .hex("dh2", dh[1])
        .hex("dh3", dh[2])
        .hex("dh4", dh4)
        .hex("ss", ss.expose_bytes())
        .hex("th", th)
        .hex("prk", prk)
        .hex("rk0", rk0)
        .hex("ck0", ck0)
        .hex("session_id", session)
        .map("frame", sealed.doc)
        .hex("message", envelope)
}

#[cfg_attr(test, test)]
pub(crate) fn first_messages() {
    let ((sp, sp_ek), (op, op_ek)) = (last_resort(), one_time());
    Doc::about("First messages without a code, from the first identity of identity.json to the second, whose prekeys are those of prekey.json (SPEC section 8).")
        .text("address_a", ADDRESS_A)
        .text("address_b", ADDRESS_B)
        .hex("identity_a", identity(ALICE))
        .hex("identity_b", identity(BOB))
        .hex("last_resort_prekey", prekey(BOB, 1, LAST_RESORT.0, LAST_RESORT.1, &sp, &sp_ek).encoded)
        .hex("one_time_prekey", prekey(BOB, 0, ONE_TIME.0, ONE_TIME.1, &op, &op_ek).encoded)
        .number("now", NOW)
        .map("with_one_time_prekey", case(true))
        .map("without_one_time_prekey", case(false))
        .check("first_message");
}
