//! What the system and libraries say of a failure, in the words of this program.
//!
//! Invariant: no text of a library gets through, and no number of the system. What a server says is quoted.

use std::error::Error as StdError;
use std::io;

use async_nats::jetstream;
use async_nats::{ConnectError, ConnectErrorKind};
use rustls::{CertificateError, InconsistentKeys};
use rustls_pki_types::pem;

/// What the system says, without its number.
pub(crate) fn io(why: &io::Error) -> String {
    let text = why.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_owned()
}

/// Why there is no `what` in a PEM file.
pub(crate) fn pem(why: &pem::Error, what: &str) -> String {
    match why {
        pem::Error::Io(why) => io(why),
        pem::Error::NoItemsFound => format!("no {what} in it"),
        _ => "it is not PEM text, or a part of it is missing".to_owned(),
    }
}

/// Why a certificate and its key cannot be used.
pub(crate) fn pair(why: &rustls::Error) -> String {
    match why {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key does not belong to this certificate"
        }
        rustls::Error::InvalidCertificate(_) => "it is not a certificate that TLS can use",
        _ => "its key is not one that TLS can use",
    }
    .to_owned()
}

/// Why there is no connection to the NATS servers.
pub(crate) fn nats_connect(why: &ConnectError) -> String {
    match why.kind() {
        ConnectErrorKind::ServerParse => {
            "an address of [nats] in relay.toml cannot be used".to_owned()
        }
        ConnectErrorKind::Dns => "the name of a server cannot be looked up".to_owned(),
        ConnectErrorKind::Authentication => "the credentials cannot be used".to_owned(),
        ConnectErrorKind::AuthorizationViolation => {
            "the servers do not accept these credentials, or ask for some".to_owned()
        }
        ConnectErrorKind::TimedOut | ConnectErrorKind::MaxReconnects => NO_ANSWER.to_owned(),
        ConnectErrorKind::Tls => {
            known_cause(why).unwrap_or_else(|| "the TLS connection failed".to_owned())
        }
        ConnectErrorKind::Io => {
            known_cause(why).unwrap_or_else(|| "the connection failed".to_owned())
        }
    }
}

/// Why the NATS servers did not do what they were asked.
pub(crate) fn nats(why: &(dyn StdError + 'static)) -> String {
    tracing::debug!(error = ?why.to_string(), "NATS failed");
    known_cause(why).unwrap_or_else(|| NO_ANSWER.to_owned())
}

const NO_ANSWER: &str = "no answer in time";

/// The first cause that there are words for.
fn known_cause(why: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(why);
    while let Some(now) = cause {
        if let Some(tls) = now.downcast_ref::<rustls::Error>() {
            return Some(server(tls).to_owned());
        }
        if let Some(why) = now.downcast_ref::<io::Error>() {
            return Some(
                match why
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                {
                    Some(tls) => server(tls).to_owned(),
                    None => io(why),
                },
            );
        }
        if let Some(answer) = now.downcast_ref::<jetstream::Error>() {
            return Some(format!("the servers say {:?}", answer.to_string()));
        }
        cause = now.source();
    }
    None
}

/// Why a server is not trusted, or does not speak TLS.
fn server(why: &rustls::Error) -> &'static str {
    match why {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate of the server is of an authority that this computer does not trust, and `ca` does not name"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the certificate of the server is for another name",
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the certificate of the server has expired",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the certificate of the server is not valid yet, by this computer's clock",
        rustls::Error::InvalidCertificate(_) => {
            "the certificate of the server is not to be trusted"
        }
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS",
        rustls::Error::AlertReceived(_) => "the server refused the TLS connection",
        _ => "the TLS connection failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_library_and_no_number_of_the_system_is_said() {
        let missing = || io::Error::from_raw_os_error(2);
        assert_eq!(io(&missing()), "No such file or directory");
        assert_eq!(
            pem(&pem::Error::Io(missing()), "key"),
            "No such file or directory"
        );
        assert_eq!(pem(&pem::Error::NoItemsFound, "key"), "no key in it");
        let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
        assert_eq!(
            pair(&mismatch),
            "the key does not belong to this certificate"
        );
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let inside = io::Error::new(io::ErrorKind::InvalidData, unknown);
        assert!(nats(&inside).starts_with("the certificate of the server is of an authority"));
        assert_eq!(nats(&missing()), "No such file or directory");
        assert_eq!(nats(&std::fmt::Error), "no answer in time");
    }
}
