//! A whole pairing: three messages and the first reply.

use alloc::vec::Vec;

use hostchat_core::crypto::kem::{KemSecret, danger_encapsulate_with};
use hostchat_core::crypto::pake::Role;
use hostchat_core::error::Error;
use hostchat_core::handshake::Code;
use hostchat_core::handshake::pair::{Initiator, Pending, respond};
use hostchat_core::ratchet::{MAX_STORED, Plaintext, Session};
use hostchat_core::wire::{
    Address, Bytes, Envelope, EnvelopeBytes, MAX_ENVELOPE, PairAnswer, PairOffer, codec,
};
use rand_chacha::rand_core::SeedableRng as _;

use super::doc::Doc;
use super::identity::{ALICE, BOB, identity, person};
use super::second::{
    Pake, Script, array, drawn, expand, extract, header, hmac, lv, lv_cat, root_step, seal_frame,
    sha256, varint, x25519, x25519_public,
};

const ADDRESS_A: &str = "alice@relay.example:7443";
const ADDRESS_B: &str = "bob@other.example:443";
const CODE: &[u8; 6] = b"042917";
const FIRST: &[u8] = b"meet at nine";

/// What the crate says.
struct Run {
    offer: Vec<u8>,
    answer: Vec<u8>,
    third: Vec<u8>,
    reply: Vec<u8>,
    pending: Vec<u8>,
    session_a: Vec<u8>,
    decoded: (PairOffer, PairAnswer),
    random: Doc,
}

fn run() -> Run {
    let (alice, bob) = (person(ALICE), person(BOB));
    let (a, b) = (
        Address::parse(ADDRESS_A).unwrap(),
        Address::parse(ADDRESS_B).unwrap(),
    );
    let code = Code::from_digits(CODE).unwrap();
    let mut rng = Script::new(&[
        "pair sid",
        "pair scalar a",
        "pair ephemeral a",
        "pair kem a",
        "pair encapsulation b",
        "pair ephemeral b",
        "pair scalar b",
        "pair ratchet a",
        "pair message id a",
        "pair ratchet b",
        "pair message id b",
    ]);
    let (initiator, offer) = Initiator::offer(&alice, &a, &b, &code, &mut rng).unwrap();
    let (pending, answer) = respond(&bob, &b, &code, &offer, &mut rng).unwrap();
    let mut stored_pending = [0; Pending::MAX_LEN];
    let len = pending.store(&mut stored_pending).unwrap();

    let (mut session_a, mut session_b) = (Session::empty(), Session::empty());
    initiator
        .confirm(&alice, &answer, &mut session_a, &mut rng)
        .unwrap();
    let mut stored_a = [0; MAX_STORED];
    let len_a = session_a.store(&mut stored_a).unwrap();
    let mut third = EnvelopeBytes::new();
    session_a.seal(FIRST, &mut rng, &mut third).unwrap();
    let Ok(Envelope::Confirmed { confirm, frame }) = codec::decode(&third) else {
        panic!("message 3")
    };
    let mut plain = Plaintext::new();
    pending
        .open(&confirm, frame, &mut session_b, &mut plain)
        .unwrap();
    assert_eq!(plain, FIRST);
    let mut reply = EnvelopeBytes::new();
    session_b.seal(b"", &mut rng, &mut reply).unwrap();
    Run {
        offer: encode(&Envelope::PairOffer(offer.clone())),
        answer: encode(&Envelope::PairAnswer(answer.clone())),
        third: third.to_vec(),
        reply: reply.to_vec(),
        pending: stored_pending[..len].to_vec(),
        session_a: stored_a[..len_a].to_vec(),
        decoded: (offer, answer),
        random: rng.into_doc(),
    }
}

#[cfg_attr(test, test)]
pub(crate) fn pairing() {
    let run = run();
    let sid: [u8; 16] = array("pair sid");
    let (id_a, id_b) = (identity(ALICE), identity(BOB));
    let (a, b) = (ADDRESS_A.as_bytes(), ADDRESS_B.as_bytes());

    let ci = lv_cat(&[b"hostchat/1 pair ci", &[1], a, b]);
    let (pake_a, pake_b) = (
        Pake::new(CODE, &ci, &sid, "pair scalar a"),
        Pake::new(CODE, &ci, &sid, "pair scalar b"),
    );
    let (ya, yb) = (pake_a.share, pake_b.share);
    let (ea, eb) = (drawn("pair ephemeral a", 32), drawn("pair ephemeral b", 32));
    let ek = KemSecret::from_bytes(array("pair kem a")).encapsulation_key();
    let (ct, ss) = danger_encapsulate_with(&ek, &array("pair encapsulation b")).unwrap();

    let ad = |role: u8, id: &[u8], ephemeral: &[u8], kem: &[u8]| {
        [
            &[role, 1][..],
            &lv(a),
            &lv(b),
            id,
            &x25519_public(ephemeral),
            kem,
        ]
        .concat()
    };
    let (ad_a, ad_b) = (ad(1, &id_a, &ea, &ek), ad(2, &id_b, &eb, &ct));
    let isk = pake_a.isk(Role::Initiator, &ad_a, &yb, &ad_b);
    assert_eq!(isk, pake_b.isk(Role::Responder, &ad_b, &ya, &ad_a));

    let th = sha256(&lv_cat(&[
        b"hostchat/1 pair th",
        &ci,
        &sid,
        &ya,
        &ad_a,
        &yb,
        &ad_b,
    ]));
    let shared = [
        x25519(&ea, &x25519_public(&eb)),
        x25519(&drawn("alice dh", 32), &x25519_public(&eb)),
        x25519(&ea, &id_b[32..64]),
    ];
    let prk = extract(
        &th,
        &[&isk, &shared[0], &shared[1], &shared[2], ss.expose_bytes()],
    );
    let k_a: [u8; 32] = expand(&prk, "hostchat/1 pair confirm a");
    let k_b: [u8; 32] = expand(&prk, "hostchat/1 pair confirm b");
    let rk0: [u8; 32] = expand(&prk, "hostchat/1 pair root");
    let ck0: [u8; 32] = expand(&prk, "hostchat/1 pair chain");
    let session: [u8; 16] = expand(&prk, "hostchat/1 pair session id");
    let (tag_a, tag_b) = (hmac(&k_a, &th), hmac(&k_b, &th));

    // The three messages, each an envelope.
    assert_eq!(run.offer, [&[0][..], &sid, &ya, &ad_a].concat());
    assert_eq!(run.answer, [&[1][..], &sid, &yb, &ad_b, &tag_b].concat());
    let ra = drawn("pair ratchet a", 32);
    let third = seal_frame(
        &ck0,
        &header(&session, &x25519_public(&ra), 0, 0),
        &array("pair message id a"),
        FIRST,
    );
    let third_envelope = [
        &[4][..],
        &sid,
        &tag_a,
        &varint(third.frame.len() as u64),
        &third.frame,
    ]
    .concat();
    assert_eq!(run.third, third_envelope);

    // The responder's first reply makes the first step.
    let rb = drawn("pair ratchet b", 32);
    let (_, chain, step) = root_step(&rk0, &x25519(&rb, &x25519_public(&ra)));
    let reply = seal_frame(
        &chain,
        &header(&session, &x25519_public(&rb), 0, 0),
        &array("pair message id b"),
        b"",
    );
    let reply_envelope = [&[3][..], &varint(reply.frame.len() as u64), &reply.frame].concat();
    assert_eq!(run.reply, reply_envelope);

    // What the two sides store.
    let length = u16::try_from(a.len()).unwrap().to_le_bytes();
    assert_eq!(
        run.pending,
        [
            &[1][..],
            &sid,
            &id_a,
            &length,
            a,
            &session,
            &rk0,
            &ck0,
            &tag_a
        ]
        .concat()
    );
    let prefix = [&[4][..], &sid, &tag_a].concat();
    let stored_a = [
        &[2][..],
        &session,
        &rk0,
        &[1],
        &ra,
        &x25519_public(&ra),
        &ck0,
        &[0; 8],
        &[0],
        &[49, 0],
        &prefix,
        &[0, 0],
    ]
    .concat();
    assert_eq!(run.session_a, stored_a);

    Doc::about("A pairing with a code, the first message and the first reply (SPEC section 7).")
        .text("address_a", ADDRESS_A)
        .text("address_b", ADDRESS_B)
        .text("code", "042917")
        .map("random", run.random)
        .hex("identity_a", id_a)
        .hex("identity_b", id_b)
        .hex("ci", ci)
        .hex("ya", ya)
        .hex("yb", yb)
        .hex("ad_a", ad_a)
        .hex("ad_b", ad_b)
        .hex("isk", isk)
        .hex("x_ea_eb", shared[0])
        .hex("x_ia_eb", shared[1])
        .hex("x_ea_ib", shared[2])
        .hex("ss", ss.expose_bytes())
        .hex("th", th)
        .hex("prk", prk)
        .hex("k_a", k_a)
        .hex("k_b", k_b)
        .hex("tag_a", tag_a)
        .hex("tag_b", tag_b)
        .hex("rk0", rk0)
        .hex("ck0", ck0)
        .hex("session_id", session)
        .hex("message_1", run.offer)
        .hex("message_2", run.answer)
        .map("frame_3", third.doc)
        .hex("message_3", run.third)
        .map("reply_step", step)
        .map("reply_frame", reply.doc)
        .hex("reply", run.reply)
        .hex("stored_pending", run.pending)
        .hex("stored_session_a", run.session_a)
        .list("refused_message_1", refused_offers(&run.decoded.0))
        .list(
            "refused_message_2",
            refused_answers(&run.decoded.0, &run.decoded.1),
        )
        .check("pairing");
}

/// The byte strings that are no share: undecodable, and the identity.
const BAD_SHARES: [[u8; 32]; 2] = [[0xff; 32], [0; 32]];

/// Offers that the responder refuses before it answers.
fn refused_offers(good: &PairOffer) -> Vec<Doc> {
    type Change = fn(&mut PairOffer);
    let cases: [(&str, Change); 10] = [
        ("undecodable share", |offer| {
            offer.share = Bytes(BAD_SHARES[0])
        }),
        ("the share is the identity", |offer| {
            offer.share = Bytes(BAD_SHARES[1])
        }),
        ("role of the responder", |offer| offer.public.role = 2),
        ("another suite", |offer| offer.public.suite = 2),
        ("addressed to another", |offer| {
            offer.public.responder = Address::parse("carol@other.example:443").unwrap();
        }),
        ("from the receiver's own address", |offer| {
            offer.public.initiator = Address::parse(ADDRESS_B).unwrap();
        }),
        ("the receiver's own identity", |offer| {
            offer.public.identity = *person(BOB).public().claim();
        }),
        ("signature of the identity", |offer| {
            offer.public.identity.signature.0[0] ^= 1
        }),
        ("ephemeral key of small order", |offer| {
            offer.public.ephemeral = Bytes([0; 32])
        }),
        ("an ML-KEM coefficient is not reduced", |offer| {
            offer.public.kem.0[..2].fill(0xff)
        }),
    ];
    let (bob, b, code) = (
        person(BOB),
        Address::parse(ADDRESS_B).unwrap(),
        Code::from_digits(CODE).unwrap(),
    );
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(0);
    assert!(respond(&bob, &b, &code, good, &mut rng).is_ok());
    let mut docs = Vec::new();
    for (why, change) in cases {
        let mut offer = good.clone();
        change(&mut offer);
        assert!(respond(&bob, &b, &code, &offer, &mut rng).is_err(), "{why}");
        docs.push(
            Doc::default()
                .text("why", why)
                .hex("message", encode(&Envelope::PairOffer(offer))),
        );
    }
    docs
}

/// Answers that the initiator of the run refuses.
fn refused_answers(offer: &PairOffer, good: &PairAnswer) -> Vec<Doc> {
    type Change = fn(&mut PairAnswer, &PairOffer);
    let cases: [(&str, Change); 9] = [
        ("undecodable share", |answer, _| {
            answer.share = Bytes(BAD_SHARES[0])
        }),
        ("the share is the identity", |answer, _| {
            answer.share = Bytes(BAD_SHARES[1])
        }),
        ("the initiator's own share", |answer, offer| {
            answer.share = offer.share
        }),
        ("another run", |answer, _| answer.sid.0[0] ^= 1),
        ("role of the initiator", |answer, _| answer.public.role = 1),
        ("the initiator's own identity", |answer, offer| {
            answer.public.identity = offer.public.identity
        }),
        ("ephemeral key of small order", |answer, _| {
            answer.public.ephemeral = Bytes([0; 32])
        }),
        ("the ciphertext was altered", |answer, _| {
            answer.public.kem.0[0] ^= 1
        }),
        ("the tag was altered", |answer, _| answer.tag.0[31] ^= 1),
    ];
    let (a, b, code) = (
        Address::parse(ADDRESS_A).unwrap(),
        Address::parse(ADDRESS_B).unwrap(),
        Code::from_digits(CODE).unwrap(),
    );
    let alice = person(ALICE);
    let confirm = |answer: &PairAnswer| {
        let mut rng = Script::new(&[
            "pair sid",
            "pair scalar a",
            "pair ephemeral a",
            "pair kem a",
            "pair ratchet a",
        ]);
        let (initiator, _) = Initiator::offer(&alice, &a, &b, &code, &mut rng).unwrap();
        initiator.confirm(&alice, answer, &mut Session::empty(), &mut rng)
    };
    assert!(confirm(good).is_ok());
    let mut docs = Vec::new();
    for (why, change) in cases {
        let mut answer = good.clone();
        change(&mut answer, offer);
        assert!(confirm(&answer).is_err(), "{why}");
        docs.push(
            Doc::default()
                .text("why", why)
                .hex("message", encode(&Envelope::PairAnswer(answer))),
        );
    }
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let typed = Code::from_digits(b"042918").unwrap();
    let (_, answer) = respond(&person(BOB), &b, &typed, offer, &mut rng).unwrap();
    assert_eq!(confirm(&answer).map(|_| ()), Err(Error::Authentication));
    let message = encode(&Envelope::PairAnswer(answer));
    docs.push(
        Doc::default()
            .text("why", "the code typed was 042918")
            .hex("message", message),
    );
    docs
}

fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    codec::encode_vec::<_, MAX_ENVELOPE>(envelope)
        .unwrap()
        .to_vec()
}
