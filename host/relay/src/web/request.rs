//! One request of a browser, bounded: what a page and a short form need, nothing else.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWrite};
use zeroize::Zeroizing;

use super::session::COOKIE;
use crate::limits::WEB_FORM;

/// Most headers of a request; browsers send twenty.
const MAX_HEADERS: usize = 64;

/// A request head.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    query: String,
    headers: Vec<(String, String)>,
}

/// The host that a request asks for, without its port, which a tunnel may have changed.
pub(crate) struct Asked<'a>(&'a str);

impl Asked<'_> {
    /// Whether the listener is known by it: by the address that it was reached at, as this machine itself, or by a name
    /// that the operator has configured.
    pub(crate) fn is_ours(&self, own: IpAddr, names: &[String]) -> bool {
        let Self(host) = self;
        let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        match address.unwrap_or(host).parse::<IpAddr>() {
            Ok(asked) => asked.is_loopback() || asked.to_canonical() == own.to_canonical(),
            Err(_) => {
                let known = names.iter().map(String::as_str).chain(["localhost"]);
                known
                    .into_iter()
                    .any(|name| name.eq_ignore_ascii_case(host))
            }
        }
    }
}

/// The fields of a query or a form. They may hold the password, and are wiped.
pub(crate) struct Fields(Vec<(String, Zeroizing<String>)>);

impl Request {
    /// Parses a head: `None` if there is more to come, with its size if it is whole.
    pub(crate) fn try_parse(bytes: &[u8]) -> Result<Option<(usize, Self)>, httparse::Error> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(size) = parsed.parse(bytes)? else {
            return Ok(None);
        };
        let target = parsed.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = parsed.headers.iter().map(|header| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_ascii_lowercase(), value)
        });
        let request = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers.collect(),
        };
        Ok(Some((size, request)))
    }

    /// The only header of this name; two of one name are none.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value.as_str())
    }

    /// The host asked for; `None` where there is no such header, two of them, or not a host and a port.
    pub(crate) fn host(&self) -> Option<Asked<'_>> {
        let host = self.header("host")?;
        // An IPv6 address has colons of its own, in brackets.
        let end = host.rfind(']').map_or(0, |at| at + 1);
        let host = match host.get(end..)?.split_once(':') {
            Some((name, port)) => {
                port.parse::<u16>().ok()?;
                host.get(..end + name.len())?
            }
            None => host,
        };
        (!host.is_empty()).then_some(Asked(host))
    }

    /// The cookie of the admin page.
    pub(crate) fn cookie(&self) -> Option<&str> {
        let cookies = self.headers.iter().filter(|(name, _)| name == "cookie");
        cookies
            .flat_map(|(_, value)| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| (name == COOKIE).then_some(value))
    }

    /// Whether a browser says that another site makes this request. One that says nothing may do what its cookie may.
    pub(crate) fn is_foreign(&self) -> bool {
        let site = self.header("sec-fetch-site");
        let origin = self.header("origin");
        let ours = |origin: &str| {
            let (_, host) = origin.split_once("://").unwrap_or_default();
            self.header("host") == Some(host)
        };
        site.is_some_and(|site| site != "same-origin" && site != "none")
            || origin.is_some_and(|origin| !ours(origin))
    }

    pub(crate) fn query(&self) -> Fields {
        Fields::parse(self.query.as_bytes())
    }

    /// Reads the form after the head, of which `rest` has come already; `None` if it is no form, or longer than ours.
    pub(crate) async fn form<S: AsyncReadExt + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        rest: &[u8],
    ) -> std::io::Result<Option<Fields>> {
        let length = self.header("content-length").map(str::parse::<usize>);
        let Some(Ok(length)) = length else {
            return Ok(None);
        };
        let kind = self.header("content-type").unwrap_or_default();
        let is_form = kind.starts_with("application/x-www-form-urlencoded");
        if !is_form || length > WEB_FORM || rest.len() > length {
            return Ok(None);
        }
        let mut body = Zeroizing::new(vec![0; length]);
        body[..rest.len()].copy_from_slice(rest);
        stream.read_exact(&mut body[rest.len()..]).await?;
        Ok(Some(Fields::parse(&body)))
    }
}

impl Fields {
    fn parse(bytes: &[u8]) -> Self {
        let pairs = bytes.split(|byte| *byte == b'&').map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let mut half = || decoded(halves.next().unwrap_or_default());
            (half().to_string(), half())
        });
        Self(pairs.filter(|(name, _)| !name.is_empty()).collect())
    }

    /// The first field of this name, or an empty text.
    pub(crate) fn field(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(n, _)| n == name);
        field.map_or("", |(_, value)| value.as_str())
    }
}

/// Decodes a name or a value of a form. It may be a password: unlike `form_urlencoded` this leaves no copy of it behind.
fn decoded(text: &[u8]) -> Zeroizing<String> {
    let hex = |digit: &u8| char::from(*digit).to_digit(16);
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        bytes.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    (16 * high + low) as u8
                }
                _ => b'%',
            },
            _ => *byte,
        });
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Zeroizing::new(text),
        Err(error) => {
            let bytes = Zeroizing::new(error.into_bytes());
            Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
        }
    }
}

/// For whom attempts count.
pub(crate) fn network(peer: SocketAddr) -> crate::hub::Network {
    crate::hub::Network::from(peer.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Request {
        Request::try_parse(text.as_bytes()).unwrap().unwrap().1
    }

    #[test]
    fn only_names_and_addresses_of_the_listener_are_ours() {
        let ours = |host: &str| {
            let request = parsed(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let names = ["relay.lan".to_owned()];
            let asked = request.host();
            asked.map(|h| h.is_ours(IpAddr::from([10, 0, 0, 5]), &names))
        };
        for good in [
            "10.0.0.5:9443",
            "10.0.0.5",
            "localhost",
            "LocalHost:19443",
            "127.0.0.1:9443",
            "[::1]:9443",
            "[::1]",
            "[::ffff:10.0.0.5]:1",
            "relay.lan",
            "Relay.Lan:80",
        ] {
            assert_eq!(ours(good), Some(true), "{good}");
        }
        for other in [
            "evil.example",
            "evil.example:9443",
            "10.0.0.6:9443",
            "localhost.evil.example",
            "relay.lan.",
            "127.0.0.1.evil.example",
            "[::2]:9443",
        ] {
            assert_eq!(ours(other), Some(false), "{other}");
        }
        for none in ["", ":9443", "a:b", "a:1:2", "localhost:99999"] {
            assert_eq!(ours(none), None, "{none}");
        }
        let two = parsed("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n");
        assert!(two.host().is_none());
    }

    #[test]
    fn forms_are_decoded_as_browsers_encode_them() {
        let long = "x=%41".repeat(100);
        for form in [
            "",
            "&",
            "a",
            "a=",
            "a=b",
            "a=b&c=d=e&&f",
            "=nameless&b=1",
            "a+b=c+d%20e",
            "p=%C3%BC+%26%3d%25",
            "p=100%&q=%4&r=%zz&s=%%41&t=%+1",
            "p=%ff%C3&q=\u{fc}",
            &long,
        ] {
            let theirs = form_urlencoded::parse(form.as_bytes());
            let named = theirs.filter(|(name, _)| !name.is_empty());
            let expected: Vec<_> = named
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            let Fields(ours) = Fields::parse(form.as_bytes());
            let ours: Vec<_> = ours
                .into_iter()
                .map(|(name, value)| (name, value.to_string()))
                .collect();
            assert_eq!(ours, expected, "{form}");
        }
    }

    #[test]
    fn cookies_and_origins_are_told_apart() {
        let head = |more: &str| parsed(&format!("POST /a?b=c HTTP/1.1\r\nHost: h:1\r\n{more}\r\n"));
        let cookie = |value: &str| {
            head(&format!("Cookie: {value}\r\n"))
                .cookie()
                .map(str::to_owned)
        };
        assert_eq!(cookie("a=b; hostchat_relay_admin=x; c"), Some("x".into()));
        assert_eq!(cookie("xhostchat_relay_admin=x"), None);
        assert_eq!(cookie("hostchat_relay_admin"), None);
        for (headers, foreign) in [
            ("", false),
            ("Origin: http://h:1\r\n", false),
            ("Origin: http://h:2\r\n", true),
            ("Origin: null\r\n", true),
            ("Origin: http://evil.example\r\n", true),
            ("Sec-Fetch-Site: cross-site\r\n", true),
            ("Sec-Fetch-Site: same-site\r\n", true),
            (
                "Sec-Fetch-Site: same-origin\r\nOrigin: http://h:1\r\n",
                false,
            ),
        ] {
            assert_eq!(head(headers).is_foreign(), foreign, "{headers}");
        }
        let request = head("A: 1\r\nA: 2\r\n");
        assert_eq!(request.header("a"), None);
        assert_eq!(
            (request.path.as_str(), request.query().field("b")),
            ("/a", "c")
        );
    }
}
