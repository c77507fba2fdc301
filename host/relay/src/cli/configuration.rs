//! `hostchat-relay check --config`: whether a relay could start as configured, and what its operator may not have meant.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::init::notes;
use crate::config::{Config, Storage};
use crate::error::Error;
use crate::limits::mib;
use crate::server::{fit_into_memory, name_of};
use crate::store::sqlite::folder_of;
use crate::tls;

/// Days before the end of a certificate from which on it is worth a note: certbot renews 30 days before.
const SOON_DAYS: i64 = 21;
const DAY_MS: i64 = 24 * 3_600_000;

/// Prints what there is and what to look at.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    let mut found = Vec::new();
    if config.names.is_empty() {
        // Port 0 becomes some other one.
        let mut listen = config.listen;
        listen.set_port(listen.port().max(1));
        name_of(listen)?;
    }
    let chain = tls::Identity::load(&config.certificate, &config.key)?.chain();
    if let (Storage::Nats, Some(nats)) = (config.store, &config.nats) {
        for path in [&nats.ca, &nats.credentials].into_iter().flatten() {
            std::fs::File::open(path)
                .map_err(Error::io(format!("cannot read {}", path.display())))?;
        }
    }
    let mut limits = config.limits.clone();
    fit_into_memory(&mut limits, config.store)?;
    println!("listens on: {}", config.listen);
    for name in &config.names {
        println!("clients dial: {name}");
    }
    println!("registration: {}", config.registration);
    if let Some(operator) = config.operator {
        println!("operator's listener: {operator}");
    }
    println!("certificate fingerprint: {}", tls::fingerprint_of(&chain));
    found.extend(notes(config.listen, config.names.first()));
    let now_ms = i64::try_from(config.clock.wall_ms()).unwrap_or(i64::MAX);
    if let Some(first) = chain.first() {
        about_certificate(first, config, now_ms, &mut found)?;
    }
    about_files(config, &mut found);
    about_numbers(config, &limits, &mut found);
    for note in &found {
        println!("note: {note}");
    }
    println!("good: a relay can start with this");
    Ok(())
}

fn about_certificate(
    first: &CertificateDer<'_>,
    config: &Config,
    now_ms: i64,
    found: &mut Vec<String>,
) -> Result<(), Error> {
    let (_, certificate) =
        X509Certificate::from_der(first).map_err(|error| Error::Certificate {
            path: config.certificate.clone(),
            why: error.to_string(),
        })?;
    // Clients pin a certificate of their own making whatever is in it.
    if certificate.issuer() == certificate.subject() {
        println!("certificate: self-signed, clients pin its fingerprint");
        return Ok(());
    }
    let (from, until) = (
        certificate.validity().not_before,
        certificate.validity().not_after,
    );
    println!("certificate: of an authority, valid until {until}");
    let left = until
        .timestamp()
        .saturating_mul(1000)
        .saturating_sub(now_ms);
    if from.timestamp().saturating_mul(1000) > now_ms {
        found.push(format!(
            "the certificate is valid only from {from} on: is this computer's date right?"
        ));
    } else if left <= 0 {
        found.push(
            "the certificate is over: clients that do not pin it refuse it. Renew it".to_owned(),
        );
    } else if left < SOON_DAYS * DAY_MS {
        found.push(format!(
            "the certificate ends in {} days: renew it",
            left / DAY_MS
        ));
    }
    for name in &config.names {
        if !is_for(&certificate, name.host()) {
            found.push(format!(
                "the certificate is not for {}: clients that dial {name} refuse it unless they pin it",
                name.host()
            ));
        }
    }
    Ok(())
}

/// Whether a certificate names a host, or all hosts beside it.
fn is_for(certificate: &X509Certificate<'_>, host: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let ip = host.parse::<std::net::IpAddr>().ok();
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => {
            let rest = host.split_once('.').map(|(_, rest)| rest);
            name.eq_ignore_ascii_case(host)
                || name
                    .strip_prefix("*.")
                    .is_some_and(|name| rest.is_some_and(|rest| name.eq_ignore_ascii_case(rest)))
        }
        GeneralName::IPAddress(bytes) => match ip {
            Some(std::net::IpAddr::V4(ip)) => *bytes == ip.octets(),
            Some(std::net::IpAddr::V6(ip)) => *bytes == ip.octets(),
            None => false,
        },
        _ => false,
    })
}

fn about_files(config: &Config, found: &mut Vec<String>) {
    for path in [&config.key, &config.password] {
        if is_open_to_others(path) {
            let path = path.display();
            found.push(format!("others can read {path}: chmod 600 {path}"));
        }
    }
    let folder = folder_of(&config.database);
    if config.store == Storage::Sqlite && !folder.is_dir() {
        found.push(format!(
            "there is no folder {} for the database: make it, for the relay's user alone",
            folder.display()
        ));
    }
    match config.operator {
        Some(operator) if !operator.ip().is_loopback() => found.push(format!(
            "others can reach the operator's listener at {operator}, which is plain HTTP: use 127.0.0.1 and a tunnel, or a network of your own"
        )),
        Some(operator) if operator.port() == config.listen.port() && operator.port() != 0 => {
            found.push(format!(
                "the operator's listener and the clients' one have the same port {}",
                operator.port()
            ));
        }
        None if config.password.exists() => found.push(
            "there is an operator's password, but no page: set `operator` to an address".to_owned(),
        ),
        _ => {}
    }
}

fn about_numbers(config: &Config, fitting: &crate::Limits, found: &mut Vec<String>) {
    let limits = &config.limits;
    if fitting.connections < limits.connections {
        found.push(format!(
            "only {} of {} connections fit into {} MiB of memory: raise memory_mib, or lower connections",
            fitting.connections, limits.connections, fitting.memory_mib
        ));
    }
    if mib(limits.blobs_mib) >= mib(limits.database_mib) && config.store == Storage::Sqlite {
        found.push(format!(
            "files may fill the database ({} of {} MiB) and keep messages out: lower blobs_mib",
            limits.blobs_mib, limits.database_mib
        ));
    }
    if limits.sender_percent > 100 || limits.guests_percent > 100 {
        found.push("a share of a mailbox is more than 100 percent: no share at all".to_owned());
    }
    if config.audit.log_days > 0 {
        found.push(format!(
            "it is kept for {} days who wrote to whom: users are told so",
            config.audit.log_days
        ));
    }
    if config.danger_synchronous_off {
        found.push("danger_synchronous_off: acknowledged messages may be lost".to_owned());
    }
}

/// Whether somebody else than the owner may read a file that is there.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0)
}
