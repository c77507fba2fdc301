//! A conversation: chains, steps, a skipped message, and frames that are refused.

use alloc::vec::Vec;

use hostchat_core::error::Error;
use hostchat_core::ratchet::{MAX_STORED, Plaintext, Session};
use hostchat_core::wire::{Envelope, EnvelopeBytes, codec};

use super::doc::Doc;
use super::second::{
    Script, array, drawn, header, root_step, seal_frame, varint, x25519, x25519_public,
};

/// The stored form of an initiator with a plain prefix, from its parts.
fn initiator(session: &[u8; 16], root: &[u8], chain: &[u8], ratchet: &[u8]) -> Vec<u8> {
    [
        &[2][..],
        session,
        root,
        &[1],
        ratchet,
        &x25519_public(ratchet),
        chain,
        &[0; 8],
        &[0],
        &[1, 0, 3],
        &[0, 0],
    ]
    .concat()
}

/// The stored form of a responder that waits for the first message of the initiator's chain.
fn responder(session: &[u8; 16], root: &[u8], chain: &[u8], ratchet_key: &[u8]) -> Vec<u8> {
    [
        &[2][..],
        session,
        root,
        &[0],
        &[0; 4],
        &[1],
        ratchet_key,
        chain,
        &[0; 4],
        &[1, 0, 3],
        &[0, 0],
    ]
    .concat()
}

fn stored(session: &Session) -> Vec<u8> {
    let mut out = [0; MAX_STORED];
    let len = session.store(&mut out).unwrap();
    out[..len].to_vec()
}

fn seal(session: &mut Session, content: &[u8], rng: &mut Script) -> Vec<u8> {
    let mut out = EnvelopeBytes::new();
    session.seal(content, rng, &mut out).unwrap();
    out.to_vec()
}

fn open(session: &mut Session, envelope: &[u8]) -> Result<Vec<u8>, Error> {
    let frame = codec::decode::<Envelope<'_>>(envelope)
        .unwrap()
        .frame()
        .unwrap();
    let (mut next, mut plain) = (Session::empty(), Plaintext::new());
    session.open(&mut next, frame, &mut plain)?;
    *session = next;
    Ok(plain.to_vec())
}

fn envelope(frame: &[u8]) -> Vec<u8> {
    [&[3][..], &varint(frame.len() as u64), frame].concat()
}

#[cfg_attr(test, test)]
pub(crate) fn conversation() {
    let session: [u8; 16] = array("ratchet session");
    let (rk0, ck0): ([u8; 32], [u8; 32]) = (array("ratchet root"), array("ratchet chain"));
    let ra = drawn("ratchet a1", 32);
    let (mut a, mut b) = (Session::empty(), Session::empty());
    let start_a = initiator(&session, &rk0, &ck0, &ra);
    let start_b = responder(&session, &rk0, &ck0, &x25519_public(&ra));
    a.load(&start_a).unwrap();
    b.load(&start_b).unwrap();

    // A1 A2(late) A3 | B1 B2 | A4, then A2 arrives.
    let mut rng = Script::new(&[
        "id a1",
        "id a2",
        "id a3",
        "ratchet b1",
        "id b1",
        "id b2",
        "ratchet a2",
        "id a4",
    ]);
    let sent_a = [b"A1", b"A2", b"A3"].map(|content| seal(&mut a, content, &mut rng));
    assert_eq!(open(&mut b, &sent_a[0]), Ok(b"A1".to_vec()));
    assert_eq!(open(&mut b, &sent_a[2]), Ok(b"A3".to_vec()));
    let stored_with_skipped = stored(&b);
    let sent_b = [b"B1", b"B2"].map(|content| seal(&mut b, content, &mut rng));
    for envelope in &sent_b {
        assert!(open(&mut a, envelope).is_ok());
    }
    let a4 = seal(&mut a, b"A4", &mut rng);
    assert_eq!(open(&mut b, &a4), Ok(b"A4".to_vec()));
    let stored_with_aged = stored(&b);
    assert_eq!(open(&mut b, &sent_a[1]), Ok(b"A2".to_vec()));

    // The same from the primitives.
    let mut messages = Vec::new();
    let mut frames = Vec::new();
    let mut chain = ck0;
    let mut skipped_key = [0; 32];
    for (n, (id, content)) in [("id a1", b"A1"), ("id a2", b"A2"), ("id a3", b"A3")]
        .into_iter()
        .enumerate()
    {
        if n == 1 {
            skipped_key = super::second::hmac(&chain, b"hostchat/1 message key");
        }
        let header = header(&session, &x25519_public(&ra), 0, u32::try_from(n).unwrap());
        let sealed = seal_frame(&chain, &header, &array(id), content);
        assert_eq!(sent_a[n], envelope(&sealed.frame));
        chain = sealed.next_chain_key;
        frames.push(sealed.frame);
        messages.push(sealed.doc);
    }
    let second_stored = [
        &[2][..],
        &session,
        &rk0,
        &[0],
        &[0; 4],
        &[1],
        &x25519_public(&ra),
        &chain,
        &[3, 0, 0, 0],
        &[1, 0, 3],
        &[1, 0],
        &x25519_public(&ra)[..8],
        &[1, 0, 0, 0],
        &skipped_key,
        &[0],
    ]
    .concat();
    assert_eq!(stored_with_skipped, second_stored);
    // Format 1 had no ages.
    let in_format_1 = [&[1][..], &second_stored[1..second_stored.len() - 1]].concat();
    let mut from_format_1 = Session::empty();
    from_format_1.load(&in_format_1).unwrap();
    assert_eq!(stored(&from_format_1), second_stored);

    let rb = drawn("ratchet b1", 32);
    let (rk1, mut chain, step_b) = root_step(&rk0, &x25519(&rb, &x25519_public(&ra)));
    for (n, (id, content)) in [("id b1", b"B1"), ("id b2", b"B2")].into_iter().enumerate() {
        let header = header(&session, &x25519_public(&rb), 0, u32::try_from(n).unwrap());
        let sealed = seal_frame(&chain, &header, &array(id), content);
        assert_eq!(sent_b[n], envelope(&sealed.frame));
        chain = sealed.next_chain_key;
        messages.push(sealed.doc);
    }
    let ra2 = drawn("ratchet a2", 32);
    let (rk2, chain, step_a) = root_step(&rk1, &x25519(&ra2, &x25519_public(&rb)));
    let sealed = seal_frame(
        &chain,
        &header(&session, &x25519_public(&ra2), 3, 0),
        &array("id a4"),
        b"A4",
    );
    assert_eq!(a4, envelope(&sealed.frame));
    messages.push(sealed.doc);
    // Two steps after the key was kept: Bob's own, and that of A4.
    let second_aged = [
        &[2][..],
        &session,
        &rk2,
        &[0],
        &[2, 0, 0, 0],
        &[1],
        &x25519_public(&ra2),
        &sealed.next_chain_key,
        &[1, 0, 0, 0],
        &[1, 0, 3],
        &[1, 0],
        &x25519_public(&ra)[..8],
        &[1, 0, 0, 0],
        &skipped_key,
        &[2],
    ]
    .concat();
    assert_eq!(stored_with_aged, second_aged);

    Doc::about("A conversation of six messages, the second of which is late (SPEC section 9).")
        .hex("session_id", session)
        .hex("rk0", rk0)
        .hex("ck0", ck0)
        .hex("ratchet_a1_private", &ra)
        .map("random", rng.into_doc())
        .hex("stored_a_at_the_start", &start_a)
        .hex("stored_b_at_the_start", &start_b)
        .list("messages", messages)
        .map("step_b", step_b)
        .map("step_a", step_a)
        .hex("stored_b_after_a3", &stored_with_skipped)
        .hex("stored_b_after_a3_in_format_1", in_format_1)
        .hex("stored_b_after_a4", stored_with_aged)
        .list("refused", refused(&start_b, &frames[0]))
        .list("refused_stored", refused_stored(&stored_with_skipped))
        .check("ratchet");
}

/// Frames that the responder of the start refuses, all made from its first good one.
fn refused(start: &[u8], good: &[u8]) -> Vec<Doc> {
    let header_len = 53;
    let with = |at: usize, byte: u8| {
        let mut frame = good.to_vec();
        frame[at] = byte;
        frame
    };
    let header = |pn: u64, n: u64| {
        [
            &good[..50],
            &varint(pn),
            &varint(n),
            &[0],
            &good[header_len..],
        ]
        .concat()
    };
    let cases = [
        ("another version", with(0, 2)),
        ("another suite", with(1, 2)),
        ("another session", with(2, good[2] ^ 1)),
        ("another ratchet key", with(20, good[20] ^ 1)),
        ("pn was altered", header(1, 0)),
        ("n was altered", header(0, 1)),
        ("n is further than 2,000 ahead", header(0, 2001)),
        ("n is the largest number", header(0, u64::from(u32::MAX))),
        ("n is too large for 32 bits", header(0, 1 << 32)),
        (
            "an extension",
            [&good[..52], &[1, 0], &good[header_len..]].concat(),
        ),
        (
            "n has an overlong encoding",
            [&good[..51], &[0x80, 0], &good[52..]].concat(),
        ),
        (
            "the message id was altered",
            with(header_len, good[header_len] ^ 1),
        ),
        (
            "the tag was altered",
            with(header_len + 16, good[header_len + 16] ^ 1),
        ),
        (
            "the ciphertext was altered",
            with(good.len() - 1, good[good.len() - 1] ^ 1),
        ),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("cut within the tag", good[..header_len + 20].to_vec()),
    ];
    let (mut session, mut next, mut plain) = (Session::empty(), Session::empty(), Plaintext::new());
    session.load(start).unwrap();
    assert!(session.open(&mut next, good, &mut plain).is_ok());
    let mut docs = Vec::new();
    for (why, frame) in cases {
        assert!(
            session.open(&mut next, &frame, &mut plain).is_err(),
            "{why}"
        );
        assert_eq!(stored(&session), start);
        docs.push(Doc::default().text("why", why).hex("frame", frame));
    }
    docs
}

/// Stored forms that are none, all made from a good one with one skipped key.
fn refused_stored(good: &[u8]) -> Vec<Doc> {
    let with = |at: usize, byte: u8| {
        let mut stored = good.to_vec();
        stored[at] = byte;
        stored
    };
    let last = good.len() - 1;
    // The same key twice, under two numbers; the ages follow.
    let entry = &good[last - 44..last];
    let two = |ages: [u8; 2]| {
        let mut other = entry.to_vec();
        other[8] = 0;
        [&good[..last - 46], &[2, 0], &other, entry, &ages].concat()
    };
    let cases = [
        ("another version", with(0, 3)),
        ("format 1 with an age", with(0, 1)),
        ("an age of 30 steps", with(last, 30)),
        ("no age", good[..last].to_vec()),
        ("an age too many", [good, &[0]].concat()),
        ("a younger key before an older one", two([0, 1])),
        ("no chain at all", {
            [&good[..54], &[0], &good[55 + 32 + 32 + 4..]].concat()
        }),
    ];
    let mut session = Session::empty();
    assert!(session.load(&two([1, 0])).is_ok());
    let mut docs = Vec::new();
    for (why, bytes) in cases {
        assert!(session.load(&bytes).is_err(), "{why}");
        docs.push(Doc::default().text("why", why).hex("stored", bytes));
    }
    docs
}
