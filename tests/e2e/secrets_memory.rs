//! The memory of a token that was locked, and of a relay through which a conversation went: no secret of theirs, or of others.
//!
//! Only root reads the memory of these processes; without it these tests are left out.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hostchat::model::Pin;
use hostchat::token::Driver;
use hostchat::transport::serial::SerialLink;
use hostchat_core::crypto::stretch::{Block, STRETCH_BLOCKS, stretch};
use hostchat_core::icd::{Command as TokenCommand, Reply};
use hostchat_tests::{PATIENCE, Running, Sim, World, free_port, program};
use hostchat_token::testing::thief::{Effort, Loot};
use zeroize::Zeroizing;

use crate::errors_secrets::{contains, files, memory};
use crate::support::{code_of, other_code, pair, texts};

/// Whether this test can look into other processes.
fn may_look() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        println!("LEFT OUT: only root can read the memory of a process that is not dumpable");
    }
    may
}

/// A secret by name; half of one counts as found.
struct Secret(&'static str, [u8; 32]);

impl Secret {
    fn new(name: &'static str, bytes: &[u8]) -> Self {
        Self(name, *bytes.first_chunk().expect("32 bytes"))
    }
}

/// Calls `hit` for each place at which one of `parts`, all at least two bytes long, may begin: what follows shares its first
/// two bytes.
fn scan<'a>(seen: &'a [u8], parts: &[Vec<u8>], mut hit: impl FnMut(&'a [u8])) {
    let place = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let mut begins = vec![false; 1 << 16];
    for part in parts {
        begins[place(part)] = true;
    }
    for (at, pair) in seen.windows(2).enumerate() {
        if begins[place(pair)] {
            hit(&seen[at..]);
        }
    }
}

/// The names of those secrets of which a half is in the memory of a process.
fn found(pid: u32, secrets: &[Secret]) -> Vec<&'static str> {
    let halves = |secret: &Secret| secret.1.chunks(16).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let parts: Vec<_> = secrets.iter().flat_map(halves).collect();
    let mut names = Vec::new();
    scan(&memory(pid), &parts, |rest| {
        let mut all = secrets.iter();
        let hit = all.find(|secret| secret.1.chunks(16).any(|half| rest.starts_with(half)));
        names.extend(hit.map(|secret| secret.0));
    });
    names.sort_unstable();
    names.dedup();
    names
}

/// Which of these words are there.
fn words_in<'w>(seen: &[u8], words: &[&'w str]) -> Vec<&'w str> {
    let parts: Vec<_> = words
        .iter()
        .map(|words| words.as_bytes().to_vec())
        .collect();
    let mut hits = Vec::new();
    scan(seen, &parts, |rest| {
        let mut all = words.iter();
        hits.extend(all.find(|words| rest.starts_with(words.as_bytes())));
    });
    hits
}

/// Waits until none of the secrets is in memory any more: what is still there after [`PATIENCE`] stays there.
#[track_caller]
fn wait_gone(pid: u32, secrets: &[Secret], when: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let names = found(pid, secrets);
        if names.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{when}: {names:?}");
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// What the PIN opens on the flash of a token: everything that must not be in its memory when it is locked.
fn secrets_of(sim: &Sim, wrap: &[u8; 32]) -> Vec<Secret> {
    let image = fs::read(sim.folder().join("token.flash")).expect("the flash");
    let loot = Loot::of(&image, wrap, Effort::Named);
    let mut secrets = vec![
        Secret::new("wrapping key", wrap),
        Secret::new("master key", &loot.master.expect("the PIN is right")),
    ];
    for keys in loot.contents(2..3) {
        secrets.push(Secret::new("signing key", &keys[1..]));
        secrets.push(Secret::new("identity's X25519 key", &keys[33..]));
    }
    for prekey in loot.contents(8..40) {
        secrets.push(Secret::new("prekey", &prekey[14..]));
        secrets.push(Secret::new("prekey's KEM seed", &prekey[46..]));
    }
    for record in loot.contents(40..172) {
        let origin = [1, 17, 17, 5, 21][usize::from(record[10])];
        let address = 10 + origin + 16;
        let length = usize::from(u16::from_le_bytes([record[address], record[address + 1]]));
        let ratchet = &record[address + 2 + length + 128..];
        secrets.push(Secret::new("root key", &ratchet[17..]));
        if ratchet[49] == 1 {
            secrets.push(Secret::new("ratchet key", &ratchet[50..]));
            secrets.push(Secret::new("sending chain key", &ratchet[114..]));
        }
    }
    secrets
}

/// Which secrets of an unlocked token its work must have left in memory.
const OF_AN_UNLOCKED_TOKEN: [&str; 3] = ["identity's X25519 key", "master key", "signing key"];

#[test]
fn a_locked_token_has_none_of_its_secrets_in_memory() {
    if !may_look() {
        return;
    }
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let (alice, bob) = (
        world.home_on("alice", &relay, &sim),
        world.home("bob", &relay),
    );
    sim.kill();
    let mut command = Command::new(program("hostchat-sim"));
    command.arg("--dir").arg(sim.folder());
    command
        .arg("--link")
        .arg(&sim.link)
        .args(["--idle-lock", "1"]);
    let token = Running::start(command.stdin(Stdio::null()));
    token.wait_out("the token's port", |line| {
        line.starts_with("ready").then_some(())
    });
    // It does everything that it can do for a conversation, and is unplugged from its host each time.
    pair(&world, &alice, &bob);
    for text in ["one", "two", "three"] {
        bob.run(&["send", "alice", text]).ok();
        let received = alice.run(&["recv", "--json"]).ok();
        assert_eq!(texts(&received), [text]);
        alice.run(&["send", "bob", text]).ok();
    }

    let link = SerialLink::open(&sim.link).expect("the port");
    let cancel = Arc::new(AtomicBool::new(false));
    let mut driver = Driver::new(Box::new(link), cancel, Box::new(|_| {}));
    let hello = driver.hello().expect("an answer");
    let typed = "a long passphrase of alice";
    let mut blocks = vec![Block::new(); STRETCH_BLOCKS];
    let stretched = stretch(typed.as_bytes(), &hello.salt.0, &mut blocks).expect("stretched");
    drop(blocks);
    let wrap = *stretched.wrap().expose_bytes();
    let mut secrets = secrets_of(&sim, &wrap);
    assert!(secrets.len() >= 12, "{}", secrets.len());
    wait_gone(token.pid(), &secrets, "after the host has gone");
    // The search works in a locked token as well: this half of what the PIN gives is on the token anyway (SPEC 13.5).
    let kept = [Secret::new("PRS", stretched.prs().expose_bytes())];
    assert_eq!(found(token.pid(), &kept), ["PRS"]);

    let unlock = |driver: &mut Driver, secrets: &mut Vec<Secret>| {
        let pin = Pin::new(Zeroizing::new(typed.as_bytes().to_vec())).expect("a PIN");
        driver.unlock(&pin).expect("unlocked");
        let key = driver.command(&TokenCommand::StorageKey, |reply| match reply {
            Reply::StorageKey(key) => Some(key.0),
            _ => None,
        });
        secrets.push(Secret::new("storage key", &key.expect("a key")));
        secrets.extend(secrets_of(&sim, &wrap));
        let names = found(token.pid(), secrets);
        for name in OF_AN_UNLOCKED_TOKEN {
            assert!(
                names.contains(&name),
                "the search finds no {name}: {names:?}"
            );
        }
    };
    unlock(&mut driver, &mut secrets);
    driver.done(&TokenCommand::Lock).expect("locked");
    wait_gone(token.pid(), &secrets, "after the lock");
    unlock(&mut driver, &mut secrets);
    // Nothing is asked any more, and the port stays open.
    wait_gone(token.pid(), &secrets, "after a minute without a request");
    assert!(!contains(&memory(token.pid()), typed));
}

/// Whether six digits stand somewhere for themselves: no part of a longer number, and no fraction of a second.
fn shows_code(bytes: &[u8], code: &str) -> bool {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let windows = bytes.windows(code.len()).enumerate();
    windows
        .filter(|(_, window)| *window == code.as_bytes())
        .any(|(at, _)| {
            let before = at.checked_sub(1);
            let fraction = before.is_some_and(|at| bytes[at] == b'.' || is_digit(at));
            !fraction && !is_digit(at + code.len())
        })
}

#[test]
fn a_relay_never_has_a_text_a_code_or_its_operators_password_in_memory_files_or_log() {
    if !may_look() {
        return;
    }
    let text = "the heron nests by the third weir";
    let password = "a long password of the operator";
    let world = World::new();
    let mut relay = world.relay();
    relay.stop().ok();
    let (settings, operator) = (relay.folder().join("relay.toml"), free_port());
    let written = fs::read_to_string(&settings).expect("settings");
    let listener = format!("operator = \"127.0.0.1:{operator}\"\n");
    fs::write(&settings, listener + &written).expect("written");
    let typed = world.path("typed");
    fs::write(&typed, format!("{password}\n")).expect("written");
    let mut set = Command::new(program("hostchat-relay"));
    set.args(["admin", "--dir"]).arg(relay.folder());
    set.args(["password", "--file"]).arg(&typed);
    Running::start(set.stdin(Stdio::null())).end().ok();
    let mut verbose = Command::new(program("hostchat-relay"));
    relay.start_through(verbose.env("HOSTCHAT_RELAY_LOG", "trace"));
    let pid = relay.process().pid();

    let secret = [
        text,
        "heron",
        password,
        "password of the",
        "password+of+the",
        "pass%77ord",
    ];
    let mut codes = Vec::new();
    let look = |when: &str, codes: &[String]| {
        let mut places = vec![("memory".to_owned(), memory(pid))];
        places.extend(files(relay.folder()));
        let mut known = 0;
        for (place, seen) in &places {
            let mut hits = words_in(seen, &[&secret[..], &["alice"]].concat());
            known += usize::from(hits.contains(&"alice"));
            hits.retain(|hit| *hit != "alice");
            assert!(hits.is_empty(), "{when}: {hits:?} in {place}");
            for code in codes {
                assert!(!shows_code(seen, code), "{when}: {code} is in {place}");
            }
        }
        assert!(
            known >= 2,
            "the search finds the account in memory and database"
        );
    };
    let sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);

    let sending = alice.start(&["send", "bob", text, "--code", "print"]);
    codes.push(code_of(&sending));
    bob.run_with_input(
        &["accept", "alice", "--code-file", "-"],
        &other_code(&codes[0]),
    );
    look("after a wrong code", &codes);
    let accepted = bob.run_with_input(
        &["accept", "alice", "--code-file", "-", "--json"],
        &codes[0],
    );
    assert_eq!(texts(&accepted.ok()), [text]);
    sending.end().ok();
    look("after the right code", &codes);

    // One who listens, one who is away.
    let following = bob.start(&["recv", "--follow", "--json"]);
    for _ in 0..5 {
        alice.run(&["send", "bob", text]).ok();
    }
    following.wait_out("the text", |line| line.contains(text).then_some(()));
    look("while somebody listens", &codes);
    following.stop();
    bob.run(&["send", "alice", text]).ok();
    alice.run(&["send", "bob", text]).ok();
    look("with texts in two mailboxes", &codes);
    assert_eq!(texts(&alice.run(&["recv", "--json"]).ok()), [text]);
    look("after they were fetched", &codes);

    // The operator types the password into the page: first a wrong one, then as it is and as browsers send it.
    let percent = password.replace(' ', "+").replace('w', "%77");
    let plus = password.replace(' ', "+");
    for (form, status) in [
        ("password of the other relay", "HTTP/1.1 403"),
        (password, "HTTP/1.1 303"),
        (&plus, "HTTP/1.1 303"),
        (&percent, "HTTP/1.1 303"),
    ] {
        let answer = log_in(operator, form);
        assert!(answer.starts_with(status), "{form}: {answer}");
        // The page is there a moment before the connection that asked for it has been cleared away.
        let deadline = Instant::now() + PATIENCE;
        while !words_in(&memory(pid), &secret).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        look("after a login at the admin page", &codes);
    }
    let logs = relay.stop().ok();
    for words in [text, "heron", password, "password+of+the"] {
        assert!(!logs.err.contains(words), "{words:?} is in the log");
    }
    assert!(!shows_code(logs.err.as_bytes(), &codes[0]) && logs.err.contains("alice"));
}

/// What the admin page answers to a password.
fn log_in(operator: u16, password: &str) -> String {
    let body = format!("password={password}");
    let mut stream = TcpStream::connect(("127.0.0.1", operator)).expect("connected");
    let length = body.len();
    let request = format!(
        "POST /admin/login HTTP/1.1\r\nHost: 127.0.0.1:{operator}\r\nContent-Length: {length}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
