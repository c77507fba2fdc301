//! TLS 1.3 with a certificate from files, or a self-signed one that clients pin by its fingerprint.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use hostchat_core::crypto::hash::sha256;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;

/// A certificate chain with its key, ready to serve.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    fingerprint: String,
}

impl Identity {
    /// Loads a PEM chain and its PEM key.
    ///
    /// # Errors
    /// `Certificate` with the file and what is wrong.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |why: String| Error::Certificate { path, why }
        };
        let chain = read_chain(certificate)?;
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key)(error.to_string()))?;
        let fingerprint = fingerprint_of(chain.first().map_or(&[], |first| first.as_ref()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong(certificate)(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|error| wrong(certificate)(error.to_string()))?;
        // A login costs a signature anyway; tickets would only be state that a client can be followed by.
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            fingerprint,
        })
    }

    /// Hexadecimal SHA-256 over the first certificate's DER encoding.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// The fingerprint of a PEM certificate file.
///
/// # Errors
/// `Certificate` if it cannot be read.
pub fn fingerprint(certificate: &Path) -> Result<String, Error> {
    let chain = read_chain(certificate)?;
    Ok(fingerprint_of(
        chain.first().map_or(&[], |first| first.as_ref()),
    ))
}

/// Makes a self-signed certificate for `hosts` (names or IP addresses) and its key, both PEM.
pub(crate) fn self_signed(hosts: Vec<String>) -> Result<(String, String), Error> {
    let made = rcgen::generate_simple_self_signed(hosts)
        .map_err(|error| Error::Argument(format!("cannot make a certificate: {error}")))?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |why: String| Error::Certificate {
        path: path.to_owned(),
        why,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(chain)
}

fn fingerprint_of(der: &[u8]) -> String {
    sha256(&[der]).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
