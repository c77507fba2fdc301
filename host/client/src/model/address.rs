//! What users type for relays and contacts, brought into the one canonical form.

use std::fmt;

use hostchat_core::wire::address::DEFAULT_PORT;
use hostchat_core::wire::{Address, Name, RelayName};

use crate::error::{Error, Result};

/// SHA-256 over a relay's certificate in DER.
pub type Pin = [u8; 32];

/// A relay as it is given: where, and the certificate's fingerprint if there is no public one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Canonical `host:port`.
    pub name: RelayName,
    /// The fingerprint.
    pub pin: Option<Pin>,
}

impl RelayAddress {
    /// Takes `host[:port][#fingerprint]` in any case.
    ///
    /// # Errors
    /// `Usage`.
    pub fn parse(text: &str) -> Result<Self> {
        let (relay, pin) = split_pin(text.trim())?;
        Ok(Self {
            name: relay_name(relay)?,
            pin,
        })
    }
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        match &self.pin {
            Some(pin) => write!(f, "#{}", hex(pin)),
            None => Ok(()),
        }
    }
}

/// What a user means by a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerText {
    /// A contact's name, or an account of the own relay.
    Name(String),
    /// A whole address, and the pin of its relay if it was given.
    Address(Address, Option<Pin>),
}

impl PeerText {
    /// Takes `name`, `name@host[:port]` or `name@host[:port]#fingerprint`.
    ///
    /// # Errors
    /// `Usage`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let Some((name, relay)) = text.split_once('@') else {
            return if text.is_empty() {
                Err(bad_peer(text))
            } else {
                Ok(Self::Name(text.into()))
            };
        };
        let (relay, pin) = split_pin(relay)?;
        let name = Name::parse(&name.to_ascii_lowercase()).map_err(|_| bad_peer(text))?;
        Ok(Self::Address(Address::new(&name, &relay_name(relay)?), pin))
    }
}

/// Takes an account name in any case.
///
/// # Errors
/// `Usage`.
pub fn account_name(text: &str) -> Result<Name> {
    Name::parse(&text.trim().to_ascii_lowercase()).map_err(|_| {
        Error::Usage(
            "a name has 1 to 32 of a-z 0-9 . _ - and begins with a letter or a digit".into(),
        )
    })
}

fn bad_peer(text: &str) -> Error {
    Error::Usage(format!(
        "\"{}\" is neither a name nor NAME@HOST:PORT",
        crate::escape::escape(text)
    ))
}

fn split_pin(text: &str) -> Result<(&str, Option<Pin>)> {
    let Some((rest, pin)) = text.split_once('#') else {
        return Ok((text, None));
    };
    let digits: String = pin.chars().filter(|c| *c != ':').collect();
    match unhex::<32>(&digits) {
        Some(pin) => Ok((rest, Some(pin))),
        None => Err(Error::Usage(
            "a fingerprint has 64 hexadecimal digits".into(),
        )),
    }
}

fn relay_name(text: &str) -> Result<RelayName> {
    let lower = text.to_ascii_lowercase();
    let (host, port) = match lower.rsplit_once(':') {
        // The colons of an IPv6 address are inside its brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()),
        _ => (lower.as_str(), Some(DEFAULT_PORT)),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner
            .parse::<std::net::Ipv6Addr>()
            .map_or_else(|_| host.to_owned(), |ip| format!("[{ip}]")),
        None => host.to_owned(),
    };
    port.filter(|port| *port != 0)
        .and_then(|port| RelayName::parse(&format!("{host}:{port}")).ok())
        .ok_or_else(|| {
            Error::Usage(format!(
                "\"{}\" is not a relay: HOST:PORT is expected",
                crate::escape::escape(text)
            ))
        })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;

    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Exactly `N` bytes from hexadecimal digits of any case.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_made_canonical() {
        let pin = "AB".repeat(32);
        for (typed, name) in [
            ("relay.example", "relay.example:7443"),
            ("Relay.Example:80", "relay.example:80"),
            ("relay.example.:80", "relay.example:80"),
            ("127.0.0.1:0080", "127.0.0.1:80"),
            ("[::0001]", "[::1]:7443"),
            ("[::1]:9", "[::1]:9"),
            (&format!("h:1#{pin}"), "h:1"),
        ] {
            let relay = RelayAddress::parse(typed).unwrap();
            assert_eq!(relay.name.as_str(), name, "{typed}");
            assert_eq!(RelayAddress::parse(&relay.to_string()).unwrap(), relay);
        }
        assert_eq!(
            RelayAddress::parse(&format!("h:1#{pin}")).unwrap().pin,
            Some([0xab; 32])
        );
    }

    #[test]
    fn what_is_no_relay_is_refused() {
        for typed in [
            "", ":1", "h:", "h:0", "h:65536", "h:x", "h h", "h#", "h#12", "::1", "[::1", "h/x",
            "h:1#zz", "\u{1b}",
        ] {
            let error = RelayAddress::parse(typed).unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Usage, "{typed}");
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }

    #[test]
    fn peers_are_names_or_addresses() {
        assert_eq!(
            PeerText::parse("bob").unwrap(),
            PeerText::Name("bob".into())
        );
        let address = Address::parse("bob@h.example:7443").unwrap();
        assert_eq!(
            PeerText::parse("Bob@H.example").unwrap(),
            PeerText::Address(address.clone(), None)
        );
        let pinned = format!("bob@h.example:7443#{}", "0".repeat(64));
        assert_eq!(
            PeerText::parse(&pinned).unwrap(),
            PeerText::Address(address, Some([0; 32]))
        );
        for typed in ["", " ", "@h", "b b@h", "bob@", "bob@h@h", "bob@h#1"] {
            assert!(PeerText::parse(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn hexadecimal_comes_back() {
        assert_eq!(unhex::<3>(&hex(&[0, 0x9f, 0xff])), Some([0, 0x9f, 0xff]));
        assert_eq!(unhex::<1>("+1"), None);
        assert_eq!(unhex::<1>("123"), None);
        assert_eq!(unhex::<2>("é12"), None);
    }
}
