//! A SOCKS5 proxy, where the environment names one: for Tor, and for networks without another way out.
//!
//! ```text
//!  ALL_PROXY=socks5h://127.0.0.1:9050 ─▶ the proxy looks the relay's name up, and connects; TLS goes through it unseen
//! ```
//!
//! Invariant: where `ALL_PROXY` is set, no relay is dialled, and none is looked up, around it: not by a slip of the pen either.

use std::io;

use hostchat_core::wire::RelayName;
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use tokio_tungstenite::tungstenite::http::Uri;

/// The port that stands for none.
const PORT: u16 = 1080;

/// What the environment says about a way to a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing: dial.
    Direct,
    /// Through this proxy.
    Socks {
        /// Host and port.
        at: (String, u16),
        /// Name and password, if it wants them.
        login: Option<(String, String)>,
    },
    /// `ALL_PROXY` holds something else: nothing is dialled.
    Unusable,
    /// `HTTPS_PROXY` holds a proxy of another kind, which is not used.
    Ignored,
}

/// The way to `relay` that the environment asks for: `ALL_PROXY` or `HTTPS_PROXY`, in any case, and `NO_PROXY`.
pub(super) fn way(relay: &RelayName, variable: impl Fn(&str) -> Option<String>) -> Way {
    let set = |name: &str| {
        let lower = name.to_ascii_lowercase();
        variable(&lower)
            .or_else(|| variable(name))
            .filter(|value| !value.trim().is_empty())
    };
    if set("NO_PROXY").is_some_and(|list| is_excepted(relay.host(), &list)) {
        return Way::Direct;
    }
    if let Some(all) = set("ALL_PROXY") {
        return socks(all.trim()).unwrap_or(Way::Unusable);
    }
    match set("HTTPS_PROXY") {
        Some(https) => socks(https.trim()).unwrap_or(Way::Ignored),
        None => Way::Direct,
    }
}

fn socks(value: &str) -> Option<Way> {
    let uri: Uri = value.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "socks5" | "socks5h" | "socks") {
        return None;
    }
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let mut parts = uri.authority()?.as_str().rsplit(['@', ']']);
    if uri.port_u16().is_none() && parts.next()?.contains(':') {
        return None;
    }
    let login = uri
        .authority()?
        .as_str()
        .rsplit_once('@')
        .map(|(login, _)| {
            let (name, password) = login.split_once(':').unwrap_or((login, ""));
            (name.to_owned(), password.to_owned())
        });
    Some(Way::Socks {
        at: (host, uri.port_u16().unwrap_or(PORT)),
        login,
    })
}

/// Whether a list of names, `.domain` or `domain` with everything below it, or `*`, names a host.
fn is_excepted(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    list.split(',').map(str::trim).any(|name| {
        let name = name.trim_start_matches('.').to_ascii_lowercase();
        let below = host
            .strip_suffix(&name)
            .is_some_and(|rest| rest.ends_with('.'));
        name == "*" || !name.is_empty() && (host == name || below)
    })
}

/// Connects to a relay.
///
/// # Errors
/// What the system or the proxy says, in words for people.
pub(super) async fn connect(relay: &RelayName) -> Result<TcpStream, String> {
    let to = (relay.host().trim_matches(['[', ']']), relay.port());
    let direct = async || {
        let connected = TcpStream::connect((relay.host(), relay.port())).await;
        connected.map_err(|why| super::words::io(&why))
    };
    match way(relay, |name| std::env::var(name).ok()) {
        Way::Direct => direct().await,
        Way::Unusable => Err(
            "the variable ALL_PROXY does not name a SOCKS5 proxy (socks5h://HOST:PORT), and no other can be used: mend it, \
             unset it, or name the relay's host in NO_PROXY"
                .into(),
        ),
        Way::Ignored => direct().await.map_err(|why| {
            format!("{why}; the proxy in HTTPS_PROXY was not used, since it is not a SOCKS5 one (socks5h://HOST:PORT)")
        }),
        Way::Socks { at, login } => {
            let proxy = (at.0.as_str(), at.1);
            let connected = match &login {
                None => Socks5Stream::connect(proxy, to).await,
                Some((name, password)) => {
                    Socks5Stream::connect_with_password(proxy, to, name, password).await
                }
            };
            connected.map(Socks5Stream::into_inner).map_err(|why| {
                format!("through the proxy {}:{}: {}", crate::escape::escape(&at.0), at.1, refusal(why))
            })
        }
    }
}

fn refusal(why: tokio_socks::Error) -> String {
    use tokio_socks::Error;

    match why {
        Error::Io(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
            "no proxy answers there".into()
        }
        Error::Io(why) => super::words::io(&why),
        Error::ProxyServerUnreachable => "no proxy answers there".into(),
        Error::AuthorizationRequired
        | Error::PasswordAuthFailure(_)
        | Error::NoAcceptableAuthMethods => "it wants a name and a password".into(),
        Error::HostUnreachable | Error::AddressTypeNotSupported => {
            "it does not find the relay".into()
        }
        Error::NetworkUnreachable | Error::TtlExpired => "it does not reach the relay".into(),
        Error::ConnectionRefused => "the relay refuses the connection".into(),
        Error::ConnectionNotAllowedByRuleset => "it does not let anybody connect there".into(),
        _ => "it is not a SOCKS5 proxy, or failed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Way {
        let relay = RelayName::parse("chat.example:7443").unwrap();
        let found = |name: &str| {
            let mut pairs = variables.iter();
            pairs
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        way(&relay, found)
    }

    fn through(host: &str, port: u16, login: Option<(&str, &str)>) -> Way {
        Way::Socks {
            at: (host.into(), port),
            login: login.map(|(name, password)| (name.into(), password.into())),
        }
    }

    #[test]
    fn the_variables_mean_what_they_mean_elsewhere() {
        assert_eq!(asked(&[]), Way::Direct);
        assert_eq!(asked(&[("ALL_PROXY", "")]), Way::Direct);
        let tor = ("ALL_PROXY", "socks5h://127.0.0.1:9050");
        assert_eq!(asked(&[tor]), through("127.0.0.1", 9050, None));
        assert_eq!(
            asked(&[("all_proxy", "socks5://user:word@[::1]")]),
            through("::1", 1080, Some(("user", "word")))
        );
        let capitals = ("ALL_PROXY", "SOCKS5://h:1");
        assert_eq!(asked(&[capitals]), through("h", 1, None));
        let http = ("HTTPS_PROXY", "http://proxy.example:3128");
        assert_eq!(asked(&[http]), Way::Ignored);
        for unusable in [
            "http://proxy.example:3128",
            "127.0.0.1:9050",
            "socks5://",
            "socks4://h:1",
            "socks5://h:99999",
            "socks5://[::1]:x",
            "sock5h://h:1",
            "x y",
        ] {
            let all = ("ALL_PROXY", unusable);
            assert_eq!(asked(&[all]), Way::Unusable, "{unusable}");
            assert_eq!(asked(&[all, ("NO_PROXY", "chat.example")]), Way::Direct);
        }
        assert_eq!(asked(&[http, tor]), through("127.0.0.1", 9050, None));
        for (list, direct) in [
            ("chat.example", true),
            ("localhost, .example", true),
            ("*", true),
            ("hat.example", false),
            ("example.com,", false),
        ] {
            let way = asked(&[tor, ("no_proxy", list)]);
            assert_eq!(way == Way::Direct, direct, "{list}");
        }
    }
}
