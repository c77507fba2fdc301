//! A relay with a name and a public certificate: no fingerprint is needed, and none other than it is accepted.

use std::path::Path;

use hostchat_tests::{Home, Relay, Running, World};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A certificate authority of our own, which stands for a public one through `SSL_CERT_FILE`.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Gives the relay in `folder` a certificate for `name`.
    fn certify(&self, folder: &Path, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(folder.join("cert.pem"), certificate.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).expect("written");
    }
}

/// A relay that is dialled as `localhost`, with a certificate for `certified`.
fn relay(world: &World, authority: &Authority, certified: &str) -> Relay {
    let mut relay = world.relay();
    relay.stop().ok();
    let port = relay
        .host_port()
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let path = relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&path).expect("relay.toml");
    let others = text.lines().filter(|line| !line.starts_with("names"));
    let text: String = others.map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, format!("names = [\"localhost:{port}\"]\n{text}")).expect("written");
    authority.certify(relay.folder(), certified);
    relay.start();
    relay.address = format!("localhost:{port}");
    relay
}

fn init(home: &Home, relay: &Relay, trusted: &Path) -> hostchat_tests::Ended {
    let mut command = home.command(&["init", "--relay", &relay.address, "--name", &home.name]);
    Running::start(
        command
            .env("SSL_CERT_FILE", trusted)
            .env_remove("SSL_CERT_DIR"),
    )
    .end()
}

#[test]
fn a_relay_with_a_public_certificate_needs_no_fingerprint() {
    let world = World::new();
    let authority = Authority::new();
    let trusted = world.path("trusted.pem");
    std::fs::write(&trusted, &authority.pem).expect("written");
    let relay = relay(&world, &authority, "localhost");
    init(&world.bare_home("alice", None), &relay, &trusted).ok();
}

#[test]
fn a_certificate_for_another_name_or_of_an_unknown_authority_is_refused() {
    let world = World::new();
    let (authority, unknown) = (Authority::new(), Authority::new());
    let trusted = world.path("trusted.pem");
    std::fs::write(&trusted, &authority.pem).expect("written");
    let home = world.bare_home("alice", None);

    let other_name = relay(&world, &authority, "relay.example");
    init(&home, &other_name, &trusted).refused(6, "certificate");
    drop(other_name);

    let world = World::new();
    let other_authority = relay(&world, &unknown, "localhost");
    init(&home, &other_authority, &trusted).refused(6, "certificate");
    drop(other_authority);

    // Nothing of a failed init stands in the way of a good one.
    let world = World::new();
    let good = relay(&world, &authority, "localhost");
    init(&home, &good, &trusted).ok();
}
