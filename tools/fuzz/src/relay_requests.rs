//! What reaches a relay: requests of clients, lines of its administration, heads of browsers, records on NATS.
//!
//! The first byte names the decoder, the others are its input. Append-only, as the corpus counts on it.

use hostchat_core::wire::relay::{Call, MAX_RELAY_MESSAGE, Request, login_items};
use hostchat_core::wire::{Envelope, codec};
use hostchat_relay::admin::protocol::{self, Refused, VERSION, line_of, request_from};
use hostchat_relay::fuzzing::browser_head;
use hostchat_relay::store::nats::fuzzing::read;

/// Runs one decoder.
pub fn run(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    match which % 5 {
        0 => request(rest),
        1 => admin(rest),
        2 => {
            browser_head(rest);
        }
        3 => record(rest),
        _ => admin_reply(rest),
    }
}

/// A message of a client. A relay does not look into bodies; those that are envelopes decode at their receiver.
fn request(bytes: &[u8]) {
    if bytes.len() > MAX_RELAY_MESSAGE {
        return;
    }
    let Ok(request) = codec::decode::<Request<'_>>(bytes) else {
        return;
    };
    let mut out = vec![0; bytes.len()];
    let again = codec::encode(&request, &mut out).map(|bytes| &*bytes);
    assert_eq!(again, Ok(bytes));
    match &request.call {
        Call::Login(login) => {
            let text = login.account.signed_text();
            assert!(!text.is_empty());
            let challenge = [0; 32];
            let (dialled, identity) = (&login.dialled, &login.identity);
            let verified = login.identity.verify().is_ok_and(|identity| {
                login_items(
                    text,
                    dialled,
                    &challenge,
                    &challenge,
                    &login.identity,
                    |i| identity.verifying_key().verify(i, &login.signature.0),
                )
                .is_ok()
            });
            assert!(!verified, "a login without its challenge: {identity:?}");
        }
        Call::Send { body, .. } => {
            if let Ok(envelope) = codec::decode::<Envelope<'_>>(body) {
                let frame = envelope.frame().unwrap_or_default();
                assert!(frame.len() < body.len());
            }
        }
        _ => {}
    }
}

/// A line of the administration: what is taken is written as a line that is taken again.
fn admin(line: &[u8]) {
    match request_from(line) {
        Ok(call) => {
            let version = VERSION;
            let again = line_of(&protocol::Request { version, call });
            assert!(again.is_ok(), "a call cannot be written");
            let again = again.unwrap_or_default();
            assert_eq!(again.last(), Some(&b'\n'));
            assert!(!again[..again.len() - 1].contains(&b'\n'), "two lines");
            let twice =
                request_from(&again).map(|call| line_of(&protocol::Request { version, call }));
            let same = twice.is_ok_and(|twice| twice.is_ok_and(|twice| twice == again));
            assert!(same, "another call");
        }
        Err(why) => assert!(matches!(why, Refused::BadRequest | Refused::Version)),
    }
}

/// What the administration's client reads.
fn admin_reply(line: &[u8]) {
    if let Ok(reply) = serde_json::from_slice::<protocol::Reply>(line) {
        let again = line_of(&reply);
        assert!(again.is_ok(), "a reply cannot be written");
    }
}

/// A record: subject, then headers, one a line, `name:value`.
fn record(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    let mut lines = text.lines();
    let subject = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    assert!(read(subject, &headers) <= 1, "{subject} is of two streams");
}
