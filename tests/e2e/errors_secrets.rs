//! Where secrets must not be: command lines, environments, core files, other people's reach, files, logs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use hostchat_tests::{Running, World, program};
use rustix::process::Signal;

use crate::support::{code_of, pair, texts};

pub(crate) fn contains(bytes: &[u8], words: &str) -> bool {
    bytes
        .windows(words.len())
        .any(|window| window == words.as_bytes())
}

/// All files below a folder, with their contents.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("a type");
        let path = entry.path();
        if kind.is_dir() {
            all.extend(files(&path));
        } else if kind.is_file() {
            all.push((path.display().to_string(), fs::read(&path).expect("read")));
        }
    }
    all
}

#[test]
fn a_running_client_shows_its_secrets_to_nobody() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let is_root = rustix::process::geteuid().is_root();

    let plain = bob.command(&["recv", "--follow", "--json"]);
    let mut command = if is_root {
        // Root looks into everything: the client runs as somebody else, whose own processes must be kept out.
        let copied = world.path("hostchat");
        fs::copy(program("hostchat"), &copied).expect("copied");
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).expect("opened");
        let mut owned = Command::new("chown");
        owned.args(["-R", "65534:65534"]).arg(&bob.folder);
        let given = owned.arg(world.path("bob.pin")).status();
        assert!(given.is_ok_and(|status| status.success()));
        let mut other = Command::new("setpriv");
        other.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        other.arg(copied).args(plain.get_args());
        other
    } else {
        plain
    };
    let following = Running::start(command.stdin(Stdio::null()));
    alice.run(&["send", "bob", "are you there?"]).ok();
    following.wait_out("the message", |line| {
        line.contains("are you there?").then_some(())
    });

    let proc = format!("/proc/{}", following.pid());
    let pin = "a long passphrase of bob";
    let limits = fs::read_to_string(format!("{proc}/limits")).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .expect("the limit of core files");
    assert_eq!(
        core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(),
        ["0", "0"],
        "{core}"
    );
    // What a process that is not dumpable has in /proc belongs to root, and only root can read it.
    assert_eq!(fs::metadata(format!("{proc}/mem")).expect("mem").uid(), 0);
    if is_root {
        let seen = fs::read(format!("{proc}/environ")).expect("environ");
        assert!(!contains(&seen, pin));
        let mut same_user = Command::new("setpriv");
        same_user.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        let read = same_user
            .args(["head", "-c1", &format!("{proc}/environ")])
            .output();
        assert!(!read.expect("head runs").status.success());
    } else {
        for name in ["mem", "environ"] {
            assert!(fs::read(format!("{proc}/{name}")).is_err(), "{name}");
        }
    }
    let seen = fs::read(format!("{proc}/cmdline")).expect("cmdline");
    assert!(!contains(&seen, pin) && contains(&seen, "recv"));
    following.signal(Signal::INT);
    following.end().refused(130, "interrupted");
}

/// The memory of a process, as root may read it.
pub(crate) fn memory(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;

    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("memory");
    let ranges = maps.lines().filter_map(|line| {
        let (from, rest) = line.split_once('-')?;
        let (to, rights) = rest.split_once(' ')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rights
            .starts_with("rw")
            .then_some((number(from)?, number(to)?))
    });
    ranges.fold(Vec::new(), |mut all, (from, to)| {
        let mut part = vec![0; usize::try_from(to - from).expect("a length")];
        // What was unmapped meanwhile is no memory any more.
        if memory.read_exact_at(&mut part, from).is_ok() {
            all.extend(part);
        }
        all
    })
}

#[test]
fn a_passphrase_is_nowhere_in_the_memory_of_an_unlocked_client() {
    if !rustix::process::geteuid().is_root() {
        println!("LEFT OUT: only root can read the memory of a process that is not dumpable");
        return;
    }
    let world = World::new();
    let relay = world.relay();
    let bob = world.home("bob", &relay);
    let pin = "a long passphrase of bob";
    let listens = |line: &str| line.contains("listening at").then_some(());

    let of_file = bob.start(&["recv", "--follow"]);
    of_file.wait_err("the end of the mailbox", listens);
    let seen = memory(of_file.pid());
    assert!(
        contains(&seen, "recv") && !contains(&seen, pin),
        "from a file"
    );
    of_file.signal(Signal::INT);
    of_file.end().refused(130, "interrupted");

    let mut command = Command::new(program("hostchat"));
    let folder = bob.folder.to_str().expect("UTF-8");
    command.args(["--home", folder, "--pin-file", "-", "recv", "--follow"]);
    command.stdin(fs::File::open(world.path("bob.pin")).expect("opened"));
    let of_input = Running::start(&mut command);
    of_input.wait_err("the end of the mailbox", listens);
    let seen = memory(of_input.pid());
    assert!(
        contains(&seen, "recv") && !contains(&seen, pin),
        "from standard input"
    );
    of_input.signal(Signal::INT);
    of_input.end().refused(130, "interrupted");

    let mut command = Command::new(program("hostchat"));
    command.args(["--home", folder, "recv", "--follow"]);
    let mut typed = crate::terminal::Terminal::start(&command, false);
    typed.wait("the question", |shown| shown.contains("Passphrase: "));
    typed.type_line(pin);
    typed.wait("the end of the mailbox", |shown| {
        shown.contains("listening at")
    });
    let seen = memory(typed.program());
    assert!(
        contains(&seen, "recv") && !contains(&seen, pin),
        "from a terminal"
    );
}

#[test]
fn a_conversation_leaves_no_plaintext_code_or_passphrase_in_files_and_logs() {
    let world = World::new();
    let mut relay = world.relay();
    relay.stop().ok();
    let mut verbose = Command::new(program("hostchat-relay"));
    relay.start_through(verbose.env("HOSTCHAT_RELAY_LOG", "trace"));
    let sim = world.sim("token");
    let (alice, bob) = (
        world.home_on("alice", &relay, &sim),
        world.home("bob", &relay),
    );

    let secret = "the heron nests by the third weir";
    let sending = alice.start(&["send", "bob", secret, "--code", "print"]);
    let code = code_of(&sending);
    let accepted = bob
        .run_with_input(&["accept", "alice", "--code-file", "-", "--json"], &code)
        .ok();
    assert_eq!(texts(&accepted), [secret]);
    sending.end().ok();
    bob.run(&["send", "alice", secret]).ok();
    // One stays in an outbox, one in a mailbox.
    alice.run(&["send", "bob", secret]).ok();
    let left: Vec<_> = files(&world.path(""));
    let logs = relay.stop().ok();
    assert!(logs.err.contains("bob"), "the relay logs names: {logs}");
    alice
        .run(&["send", "bob", secret])
        .refused(8, "kept in the outbox");

    let mut looked_into = 0;
    for (name, bytes) in left.into_iter().chain(files(&world.path(""))) {
        if name.ends_with(".pin") {
            continue;
        }
        looked_into += 1;
        for words in [secret, "heron", "a long passphrase of"] {
            assert!(!contains(&bytes, words), "{words:?} is in {name}");
        }
    }
    assert!(looked_into >= 10, "{looked_into}");
    for words in [secret, "heron", "passphrase"] {
        assert!(!logs.err.contains(words), "{words:?} is in the log");
    }
    let code_shown = logs
        .err
        .split(|c: char| !c.is_ascii_digit())
        .any(|number| number == code);
    assert!(!code_shown, "the code {code} is in the log");
    for name in ["vault.db", "token.flash", "config.toml"] {
        let mode = fs::metadata(bob.folder.join(name)).expect(name).mode();
        assert_eq!(mode & 0o077, 0, "{name} is for its owner only");
    }
}
