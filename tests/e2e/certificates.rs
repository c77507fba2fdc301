//! A relay with a name and a public certificate: no fingerprint is needed, and none other than it is accepted.

use std::path::Path;

use hostchat_tests::{Home, Relay, Running, World};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

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
        self.certify_in(folder, name, (2020, 2090));
    }

    /// The same for the years from the first to the last.
    fn certify_in(&self, folder: &Path, name: &str, years: (i32, i32)) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
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

#[test]
fn a_certificate_out_of_its_time_is_told_with_this_computers_date() {
    let world = World::new();
    let authority = Authority::new();
    let trusted = world.path("trusted.pem");
    std::fs::write(&trusted, &authority.pem).expect("written");
    let home = world.bare_home("alice", None);
    let mut relay = relay(&world, &authority, "localhost");
    let address = relay.address.clone();
    for (years, words) in [
        ((2085, 2090), "and it is valid from 2085-01-01 00:00:00 on"),
        (
            (2001, 2002),
            "it expired at 2002-01-01 00:00:00; by this computer's clock it is 20",
        ),
    ] {
        relay.stop().ok();
        authority.certify_in(relay.folder(), "localhost", years);
        relay.start();
        // What it prints has a fingerprint, which would do without a date.
        relay.address.clone_from(&address);
        let ended = init(&home, &relay, &trusted)
            .refused(6, words)
            .refused(6, "hint: set this computer's clock if it is wrong");
        assert!(
            ended.err.contains("by this computer's clock it is 20"),
            "{ended}"
        );
    }
    // The date comes first where it is what is wrong.
    relay.stop().ok();
    authority.certify(relay.folder(), "localhost");
    relay.start();
    relay.address = address;
    let inner = home.command(&["init", "--relay", &relay.address, "--name", &home.name]);
    let mut early = std::process::Command::new("faketime");
    early
        .args(["--exclude-monotonic", "-f", "@1970-01-05 00:00:00"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("TZ", "UTC0")
        .env("SSL_CERT_FILE", &trusted)
        .env_remove("SSL_CERT_DIR")
        .stdin(std::process::Stdio::null());
    Running::start(&mut early).end().refused(
        6,
        "to be trusted: by this computer's clock it is 1970-01-05 00:00:0",
    );
    init(&home, &relay, &trusted).ok();
}
