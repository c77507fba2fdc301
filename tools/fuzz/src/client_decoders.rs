//! What a client reads: addresses and exported identities that people type, its configuration, texts for a terminal, and
//! bodies of its vault.
//!
//! The first byte names the decoder, the others are its input. Append-only, as the corpus counts on it.

use std::path::Path;

use hostchat::agent::Exported;
use hostchat::error::Error;
use hostchat::escape::{escape, escape_lines, is_hostile};
use hostchat::home::Config;
use hostchat::model::address::{PeerText, RelayAddress, account_name, hex, unhex};
use hostchat_core::wire::Address;

use crate::vault;

/// Runs one decoder.
pub fn run(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let text = core::str::from_utf8(rest);
    match (which % 6, text) {
        (0, _) => vault::body(rest),
        (1, Ok(text)) => peer(text),
        (2, Ok(text)) => relay(text),
        (3, Ok(text)) => exported(text),
        (4, Ok(text)) => config(text),
        (5, Ok(text)) => shown(text),
        _ => {}
    }
}

fn peer(text: &str) {
    match PeerText::parse(text) {
        Ok(PeerText::Address(address, pin)) => {
            assert_eq!(Address::parse(address.as_str()).as_ref(), Ok(&address));
            let again = match &pin {
                Some(pin) => format!("{address}#{}", hex(pin)),
                None => address.to_string(),
            };
            let twice = PeerText::parse(&again);
            assert!(matches!(twice, Ok(PeerText::Address(a, p)) if a == address && p == pin));
        }
        Ok(PeerText::Name(name)) => {
            assert!(!name.contains('@') && !name.is_empty());
            if let Ok(name) = account_name(&name) {
                assert_eq!(account_name(name.as_str()).ok(), Some(name));
            }
        }
        Err(error) => harmless(&error),
    }
}

fn relay(text: &str) {
    match RelayAddress::parse(text) {
        Ok(relay) => assert_eq!(RelayAddress::parse(&relay.to_string()).ok(), Some(relay)),
        Err(error) => harmless(&error),
    }
    if let Some(bytes) = unhex::<4>(text) {
        assert_eq!(hex(&bytes), text.to_ascii_lowercase());
    }
}

fn exported(text: &str) {
    match Exported::parse(text) {
        Ok(exported) => {
            let line = exported.to_text();
            assert_eq!(Exported::parse(&line).ok(), Some(exported));
            let words = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(words(&line).to_lowercase(), words(text).to_lowercase());
        }
        Err(error) => harmless(&error),
    }
}

fn config(text: &str) {
    match Config::parse(Path::new("config.toml"), text) {
        Ok(config) => {
            let again = config.to_text();
            assert!(again.is_ok(), "a configuration cannot be written");
            let again = again.unwrap_or_default();
            let twice = Config::parse(Path::new("config.toml"), &again).ok();
            assert_eq!(twice, Some(config));
        }
        Err(error) => harmless(&error),
    }
}

/// Nothing that drives a terminal comes out, and two texts never look alike.
fn shown(text: &str) {
    let line = escape(text);
    assert!(!line.chars().any(is_hostile), "{line:?}");
    assert!(!line.chars().any(char::is_control));
    let lines = escape_lines(text);
    assert!(!lines.chars().any(|c| c != '\n' && is_hostile(c)));
    let behind = lines.split('\n').skip(1);
    assert!(behind.into_iter().all(|line| line.starts_with("    ")));
    assert_eq!(unescape(&line).as_deref(), Some(text), "ambiguous");
}

/// What was escaped; `None` for what [`escape`] does not write.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\\', Some('\\')) => {
                rest.next();
                out.push('\\');
            }
            ('\\', Some('u')) => {
                rest.next();
                if rest.next() != Some('{') {
                    return None;
                }
                let digits: String = rest.by_ref().take_while(|c| *c != '}').collect();
                out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
            }
            _ => out.push(c),
        }
    }
    Some(out)
}

/// An error about something that was typed cannot drive the terminal either.
fn harmless(error: &Error) {
    let text = error.to_string();
    assert!(
        !text.chars().any(|c| c != '\n' && is_hostile(c)),
        "{text:?}"
    );
}
