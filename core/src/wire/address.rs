//! Addresses: `name@host:port`, in one canonical form (SPEC §4).
//!
//! Canonical: ASCII lower case, explicit port without leading zeros, no fingerprint, no user text beyond the name.
//! An address routes; the key is the identity.

use core::fmt;

use heapless::String;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Decode, Error};

/// Longest account name, in bytes.
pub const MAX_NAME: usize = 32;
/// Longest relay name (`host:port`), in bytes: a host of 96, a colon and five digits.
pub const MAX_RELAY: usize = 102;
/// Longest address, in bytes.
pub const MAX_ADDRESS: usize = MAX_NAME + 1 + MAX_RELAY;
/// The port that is meant when a user leaves it out.
pub const DEFAULT_PORT: u16 = 7443;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $max:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String<{ $max }>);

        impl $name {
            /// Takes `text` if it is in canonical form.
            ///
            /// # Errors
            /// `Decode(TooLong)` or `Decode(Malformed)`.
            pub fn parse(text: &str) -> Result<Self, Error> {
                let check: fn(&str) -> bool = $check;
                let owned = String::try_from(text).map_err(|_| Error::Decode(Decode::TooLong))?;
                if check(text) { Ok(Self(owned)) } else { Err(Error::Decode(Decode::Malformed)) }
            }

            /// The canonical text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <&str>::deserialize(deserializer)?;
                Self::parse(text).map_err(|_| D::Error::custom("not canonical"))
            }
        }
    };
}

text_type! {
    /// An account name: 1 to 32 of `a-z 0-9 . _ -`, beginning with a letter or a digit.
    Name, MAX_NAME, is_name
}
text_type! {
    /// Where a relay is dialled: `host:port`, the host a DNS name, an IPv4 address or `[IPv6]`.
    RelayName, MAX_RELAY, is_relay
}
text_type! {
    /// Where messages for an account go: `name@host:port`.
    Address, MAX_ADDRESS, is_address
}

impl Address {
    /// Joins an account name and a relay.
    pub fn new(name: &Name, relay: &RelayName) -> Self {
        let mut text = String::new();
        // The three parts always fit: MAX_ADDRESS is their sum.
        let _ = text.push_str(name.as_str());
        let _ = text.push('@');
        let _ = text.push_str(relay.as_str());
        Self(text)
    }

    /// The account name before the `@`.
    pub fn name(&self) -> Name {
        Name(self.split().0)
    }

    /// The relay after the `@`.
    pub fn relay(&self) -> RelayName {
        RelayName(self.split().1)
    }

    fn split(&self) -> (String<MAX_NAME>, String<MAX_RELAY>) {
        let (name, relay) = self.0.split_once('@').unwrap_or_default();
        (
            String::try_from(name).unwrap_or_default(),
            String::try_from(relay).unwrap_or_default(),
        )
    }
}

impl RelayName {
    /// The host without the port; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or("", |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(DEFAULT_PORT)
    }
}

fn is_name(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME
        && bytes.first().is_some_and(|&b| ok(b))
        && bytes
            .iter()
            .all(|&b| ok(b) || matches!(b, b'.' | b'_' | b'-'))
}

fn is_relay(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    is_host(host)
        && !port.is_empty()
        && !port.starts_with('0')
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok()
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner
            .parse::<core::net::Ipv6Addr>()
            .is_ok_and(|parsed| Canonical::new(parsed).is(inner));
    }
    let label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes
                .iter()
                .all(|&b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    let numeric_end = host
        .rsplit('.')
        .next()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 96
        && host.split('.').all(label)
        && (!numeric_end || host.parse::<core::net::Ipv4Addr>().is_ok())
}

fn is_address(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(name, relay)| is_name(name) && is_relay(relay))
}

/// The one text of an IPv6 address (RFC 5952), for comparison.
struct Canonical(String<48>);

impl Canonical {
    fn new(address: core::net::Ipv6Addr) -> Self {
        let mut text = String::new();
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{address}"));
        Self(text)
    }

    fn is(&self, text: &str) -> bool {
        self.0.as_str() == text
    }
}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use super::*;

    #[cfg_attr(test, test)]
    pub fn canonical_addresses_are_taken_and_split() {
        for text in [
            "bob@relay.example:7443",
            "b-1.x_y@127.0.0.1:1",
            "a@[::1]:65535",
            "a@localhost:80",
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(Address::new(&address.name(), &address.relay()), address);
            assert_eq!(address.as_str(), text);
        }
        let relay = RelayName::parse("[fe80::1]:99").unwrap();
        assert_eq!((relay.host(), relay.port()), ("fe80::1", 99));
    }

    #[cfg_attr(test, test)]
    pub fn other_spellings_are_refused() {
        for text in [
            "",
            "bob",
            "@h:1",
            "bob@",
            "bob@h",
            "bob@h:",
            "bob@h:0",
            "bob@h:01",
            "bob@h:65536",
            "bob@h:1 ",
            "Bob@h:1",
            "bob@H:1",
            "-bob@h:1",
            "bob@-h:1",
            "bob@h-:1",
            "bob@a..b:1",
            "bob@[::01]:1",
            "bob@[fe80::1%1]:1",
            "bob@1.2.3:4",
            "bob@01.2.3.4:4",
            "b\u{301}ob@h:1",
            "bob@h:1#x",
            "bob@h@h:1",
            "bob@h:+1",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@h:1",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
