//! What libraries say of a connection, in the words of this program.
//!
//! Invariant: no text of a library, and nothing that a relay has written, gets through.

use std::io;

use rustls::CertificateError;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::CapacityError;

use crate::os;

/// Why a connection ended, or an upgrade failed.
pub(crate) fn socket(error: &WsError) -> String {
    match error {
        WsError::Io(why) => io(why),
        WsError::Tls(_) => "TLS failed".into(),
        WsError::ConnectionClosed | WsError::AlreadyClosed => "closed by the relay".into(),
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
            "it sent more than a relay may send".into()
        }
        _ => "it does not speak as a hostchat relay".into(),
    }
}

/// What a stream over TLS says.
pub(crate) fn io(why: &io::Error) -> String {
    if let Some(error) = why
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return tls(error);
    }
    match why.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => "it was cut off".into(),
        _ => crate::error::plain(why),
    }
}

/// What TLS says, but for certificates.
pub(crate) fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::PeerIncompatible(_) => "it does not speak TLS 1.3",
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. } => "it does not speak TLS",
        rustls::Error::AlertReceived(_) => "it refused the TLS connection",
        rustls::Error::PeerMisbehaved(_)
        | rustls::Error::DecryptError
        | rustls::Error::PeerSentOversizedRecord => {
            "it broke the TLS protocol, or somebody in between altered it"
        }
        rustls::Error::InvalidCertificate(_) => "its certificate is not to be trusted",
        // Of the library that looks for the system's authorities.
        rustls::Error::General(_) | rustls::Error::Other(_) => {
            "this computer's list of certificate authorities cannot be used"
        }
        _ => "TLS failed",
    }
    .into()
}

/// Whether a certificate is only out of its time.
pub(crate) fn is_date(why: &CertificateError) -> bool {
    matches!(
        why,
        CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
    )
}

/// What is wrong with a public certificate.
pub(crate) fn certificate(why: &CertificateError) -> String {
    let now = os::now_ms();
    let date = |seconds: u64| os::local(seconds.saturating_mul(1000));
    match why {
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "by this computer's clock it is {}, and it is valid from {} on",
            os::local(now),
            date(not_before.as_secs())
        ),
        CertificateError::NotValidYet => format!(
            "by this computer's clock it is {}, and it is not valid yet",
            os::local(now)
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "it expired at {}; by this computer's clock it is {}",
            date(not_after.as_secs()),
            os::local(now)
        ),
        CertificateError::Expired => format!(
            "it has expired; by this computer's clock it is {}",
            os::local(now)
        ),
        CertificateError::UnknownIssuer => {
            "no authority that this computer trusts has signed it, and no fingerprint was given"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name, and no fingerprint was given".into()
        }
        CertificateError::Revoked => "it was revoked".into(),
        _ => "it is not sound, and no fingerprint was given".into(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_cut_connection_is_told_without_a_web_address() {
        let library = io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/",
        );
        assert_eq!(socket(&WsError::Io(library)), "it was cut off");
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        let inside = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(io(&inside), "it refused the TLS connection");
    }

    #[test]
    fn a_certificate_out_of_its_time_names_this_computers_date() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let now = &os::local(os::now_ms())[..10];
        let early = certificate(&CertificateError::NotValidYetContext {
            time: at(0),
            not_before: at(4_000_000_000),
        });
        assert!(early.starts_with("by this computer's clock it is ") && early.contains(now));
        assert!(early.contains("valid from 2096-10-0"), "{early}");
        let late = certificate(&CertificateError::ExpiredContext {
            time: at(0),
            not_after: at(1_000_000_000),
        });
        assert!(
            late.contains("it expired at 2001-09-0") && late.contains(now),
            "{late}"
        );
    }
}
