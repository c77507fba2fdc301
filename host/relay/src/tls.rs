//! TLS 1.3 with a certificate from files, or a self-signed one that clients pin by its fingerprint.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hostchat_core::crypto::hash::sha256;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;
use crate::words;

/// A certificate chain with its key, ready to serve, and read again when the files change.
pub struct Identity {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    certificate: PathBuf,
    key: PathBuf,
}

/// What new connections are shown; those that are open keep what they have.
struct Current(Mutex<Arc<CertifiedKey>>);

/// What tells a changed file from the same one.
pub(crate) type Stamp = [Option<(u64, u64, i64, i64)>; 2];

impl Identity {
    /// Loads a PEM chain and its PEM key.
    ///
    /// # Errors
    /// `Certificate` with the file and what is wrong.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let pair = read_pair(certificate, key)?;
        let current = Arc::new(Current(Mutex::new(Arc::new(pair))));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong(certificate)(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as _);
        // A login costs a signature anyway; tickets would only be state that a client can be followed by.
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            current,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Reads the files again and says whether they hold another certificate; what cannot be used changes nothing.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn reload(&self) -> Result<bool, Error> {
        let pair = Arc::new(read_pair(&self.certificate, &self.key)?);
        let before = std::mem::replace(&mut *crate::lock(&self.current.0), Arc::clone(&pair));
        Ok(before.cert != pair.cert)
    }

    /// Hexadecimal SHA-256 over the first certificate's DER encoding.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint_of(&crate::lock(&self.current.0).cert)
    }

    /// What is shown to clients now.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        crate::lock(&self.current.0).cert.clone()
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
        })
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&crate::lock(&self.0)))
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

/// Reads a chain with the key that belongs to it.
fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let chain = read_chain(certificate)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|why| wrong(key)(words::pem(&why, "key")))?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider())
        .map_err(|why| wrong(certificate)(words::pair(&why)))
}

fn wrong(path: &Path) -> impl FnOnce(String) -> Error + use<> {
    let path = path.to_owned();
    move |why| Error::Certificate { path, why }
}

/// The fingerprint of a PEM certificate file.
///
/// # Errors
/// `Certificate` if it cannot be read.
pub fn fingerprint(certificate: &Path) -> Result<String, Error> {
    let chain = read_chain(certificate)?;
    Ok(fingerprint_of(&chain))
}

/// Makes a self-signed certificate for `hosts` (names or IP addresses) and its key, both PEM.
pub(crate) fn self_signed(hosts: Vec<String>) -> Result<(String, String), Error> {
    let made = rcgen::generate_simple_self_signed(hosts)
        .map_err(|error| Error::Argument(format!("cannot make a certificate: {error}")))?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| wrong(path)(words::pem(&why, "certificate")))?;
    if chain.is_empty() {
        return Err(wrong(path)("no certificate in it".to_owned()));
    }
    Ok(chain)
}

pub(crate) fn fingerprint_of(chain: &[CertificateDer<'_>]) -> String {
    let der: &[u8] = chain.first().map_or(&[], |first| first.as_ref());
    sha256(&[der]).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
