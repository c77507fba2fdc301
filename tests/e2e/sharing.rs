//! One home, several programs: whoever holds it serves the others, over a socket that nobody else can use.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hostchat_tests::{Ended, Home, Running, World, program};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::{code_of, pair, texts};

/// Runs a command that would have to ask for the passphrase, and has nobody to ask, if it had to unlock.
fn beside(home: &Home, arguments: &[&str]) -> Ended {
    let mut command = Command::new(program("hostchat"));
    command.arg("--home").arg(&home.folder).args(arguments);
    Running::start(command.stdin(Stdio::null())).end()
}

/// A program that receives and is ready for more.
fn following(home: &Home) -> Running {
    let following = home.start(&["recv", "--follow", "--json"]);
    following.wait_out("the end of its mailbox", |line| {
        line.contains("\"listening\"").then_some(())
    });
    following
}

fn shows(following: &Running, text: &str) {
    following.wait_out(text, |line| line.contains(text).then_some(()));
}

fn socket(home: &Home) -> PathBuf {
    let lock = fs::read_to_string(home.folder.join("lock")).expect("a lock");
    let path = PathBuf::from(lock.lines().nth(1).expect("a second line"));
    // Others may run elsewhere.
    assert!(path.is_absolute(), "{}", path.display());
    path
}

#[test]
fn a_second_terminal_needs_no_passphrase_and_everything_works_beside_one_that_follows() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let follower = following(&bob);
    beside(&bob, &["send", "alice", "from beside"]).ok();
    alice.run(&["send", "bob", "to the follower"]).ok();
    shows(&follower, "to the follower");
    let history = beside(&bob, &["history", "--json"]).ok();
    let all: Vec<_> = history.json();
    let all: Vec<_> = all.iter().map(|event| event["text"].as_str()).collect();
    assert_eq!(
        all,
        [Some("hello"), Some("from beside"), Some("to the follower")]
    );
    beside(&bob, &["contacts"]).ok();
    beside(&bob, &["contacts", "rename", "alice", "ally"]).ok();
    assert_eq!(
        beside(&bob, &["contacts", "--json"]).ok().json()[0]["name"],
        "ally"
    );
    beside(&bob, &["outbox"]).ok();
    assert_eq!(
        beside(&bob, &["status", "--json"]).ok().json()[0]["outbox"],
        0
    );
    beside(&bob, &["whoami"]).ok();
    beside(&bob, &["who"]).ok();
    beside(&bob, &["reply", "an answer"]).ok();
    // What has come is shown already, and a refusal is the same as in a program of its own.
    assert!(texts(&beside(&bob, &["recv", "--json"]).ok()).is_empty());
    beside(&bob, &["send", "nobody", "hi"]).refused(7, "no such account");
    beside(&bob, &["contacts", "verify", "zoe"]).refused(10, "no contact named zoe");
    assert_eq!(
        texts(&alice.run(&["recv", "--json"]).ok()),
        ["from beside", "an answer"]
    );
    follower.signal(Signal::INT);
    follower.end().refused(130, "interrupted");
    beside(&bob, &["whoami"]).refused(2, "--pin-file");
}

#[test]
fn what_needs_the_home_for_itself_names_the_program_that_holds_it() {
    let world = World::new();
    let relay = world.relay();
    let bob = world.home("bob", &relay);
    let follower = following(&bob);
    beside(&bob, &["agent", "stop"]).refused(2, "is no agent: end it");
    for command in [&["wipe", "--yes"][..], &["change-pin"], &["token", "log"]] {
        bob.run(command)
            .refused(18, &format!("(process {})", follower.pid()))
            .refused(18, "hint: nothing was sent or changed");
    }
    follower.signal(Signal::INT);
    follower.end().refused(130, "interrupted");
    bob.run(&["whoami"]).ok();
}

#[test]
fn ten_that_send_at_once_beside_one_that_follows_all_arrive() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let follower = following(&bob);
    let sent: Vec<String> = (0..10).map(|n| format!("text {n}")).collect();
    let running: Vec<Running> = sent
        .iter()
        .map(|text| bob.start(&["send", "alice", text]))
        .collect();
    running.into_iter().for_each(|one| drop(one.end().ok()));
    // In the order in which the holder took them, which nobody but it knows: its history says.
    let mut arrived = texts(&alice.run(&["recv", "--json"]).ok());
    let history = beside(&bob, &["history", "alice", "--json"]).ok().json();
    let written: Vec<String> = history
        .iter()
        .filter(|event| event["direction"] == "out")
        .map(|event| event["text"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(arrived, written);
    arrived.sort();
    assert_eq!(arrived, sent);
    drop(follower.stop());
}

#[test]
fn each_message_is_shown_once_by_two_that_follow_and_the_other_goes_on_when_one_ends() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let holder = following(&bob);
    let other = bob.start(&["recv", "--follow", "--json"]);
    let mut sent = Vec::new();
    for n in 0..20 {
        sent.push(format!("text {n}"));
        alice.run(&["send", "bob", &format!("text {n}")]).ok();
    }
    // Both have been asked; whoever is first shows it.
    let all = |ended: &[&Ended]| {
        let mut all: Vec<String> = ended.iter().flat_map(|ended| texts(ended)).collect();
        all.sort_by_key(|text| (text.len(), text.clone()));
        all
    };
    beside(&bob, &["recv"]).ok();
    holder.signal(Signal::INT);
    let holder = holder.end();
    assert_eq!(holder.code(), 130);
    alice.run(&["send", "bob", "text 20"]).ok();
    sent.push("text 20".into());
    shows(&other, "text 20");
    other.signal(Signal::INT);
    let other = other.end();
    assert_eq!(other.code(), 130);
    assert_eq!(all(&[&holder, &other]), sent);
    let last = bob.run(&["recv", "--json"]).ok();
    assert!(texts(&last).is_empty());
}

#[test]
fn when_the_holder_is_killed_whoever_follows_goes_on_and_nothing_is_lost() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let holder = following(&bob);
    let other = bob.start(&["recv", "--follow", "--json"]);
    alice.run(&["send", "bob", "before"]).ok();
    let before = || {
        let lines = [holder.out_lines(), other.out_lines()].concat();
        lines.iter().filter(|line| line.contains("before")).count()
    };
    while before() == 0 {
        std::thread::yield_now();
    }
    holder.kill();
    alice.run(&["send", "bob", "after"]).ok();
    shows(&other, "after");
    beside(&bob, &["send", "alice", "still here"]).ok();
    assert_eq!(texts(&alice.run(&["recv", "--json"]).ok()), ["still here"]);
    drop(other.stop());
    assert!(texts(&bob.run(&["recv", "--json"]).ok()).is_empty());
}

#[test]
fn a_socket_that_a_killed_program_left_is_in_nobodys_way() {
    let world = World::new();
    let relay = world.relay();
    let bob = world.home("bob", &relay);
    let holder = following(&bob);
    let path = socket(&bob);
    holder.kill();
    assert!(path.exists(), "it was left");
    bob.run(&["whoami"]).ok();
    assert!(!path.exists(), "{}", path.display());
}

#[test]
fn the_socket_is_the_users_own_and_lies_with_the_others_of_the_session() {
    let world = World::new();
    let relay = world.relay();
    let bob = world.home("bob", &relay);
    let mode = |path: &PathBuf| {
        let found = fs::metadata(path).expect("it is there");
        found.permissions().mode() & 0o777
    };
    let follower = following(&bob);
    let in_home = socket(&bob);
    assert_eq!(in_home, bob.folder.join("agent.sock"));
    assert_eq!(mode(&in_home), 0o600);
    drop(follower.stop());

    let session = world.path("session");
    fs::create_dir(&session).expect("a folder");
    let start = |arguments: &[&str]| {
        let mut command = bob.command(arguments);
        Running::start(command.env("XDG_RUNTIME_DIR", &session))
    };
    let follower = start(&["recv", "--follow", "--json"]);
    shows(&follower, "\"listening\"");
    let path = socket(&bob);
    let folder = session.join("hostchat");
    assert_eq!(path.parent(), Some(folder.as_path()));
    assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    // The lock says where it is, whatever the variable says to others.
    beside(&bob, &["whoami"]).ok();

    // Whoever else may write there could put a socket of its own in its place.
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("set");
    beside(&bob, &["whoami"]).refused(14, "others can change it");
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("set");
    beside(&bob, &["whoami"]).ok();
    drop(follower.stop());
}

#[test]
fn nothing_is_said_to_a_socket_of_another_user() {
    let world = World::new();
    let relay = world.relay();
    let bob = world.home("bob", &relay);
    let held = fs::File::options()
        .write(true)
        .open(bob.folder.join("lock"))
        .expect("the lock");
    flock(&held, FlockOperation::LockExclusive).expect("held");
    let path = bob.folder.join("other.sock");
    fs::write(bob.folder.join("lock"), format!("1\n{}\n", path.display())).expect("written");
    let listener = UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("set");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_534), None).expect("given away");
    } else {
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("set");
    }
    bob.run(&["whoami"]).refused(14, "others can change it");
    if let Ok((mut stream, _)) = listener.accept() {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("read");
        assert!(said.is_empty(), "{said:?}");
    }
    // Nothing at all listens there: the home stays in use.
    fs::remove_file(&path).expect("removed");
    bob.run(&["whoami"]).refused(18, "(process 1)");
}

/// A program at the socket of a home that says whatever it wants.
struct Face {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Face {
    fn at(home: &Home) -> Self {
        let stream = UnixStream::connect(socket(home)).expect("connected");
        let lines = BufReader::new(stream.try_clone().expect("a second handle"));
        Self { stream, lines }
    }

    fn greeted(home: &Home) -> Self {
        let mut face = Self::at(home);
        face.say("{\"hello\":{\"protocol\":1,\"program\":\"a test\"}}\n");
        assert!(face.hears().contains("\"hello\""));
        face
    }

    fn say(&mut self, text: &str) {
        // The other side may have hung up already.
        let _ = self.stream.write_all(text.as_bytes());
    }

    fn hears(&mut self) -> String {
        let mut line = String::new();
        let _ = self.lines.read_line(&mut line);
        line
    }
}

#[test]
fn whatever_a_face_says_or_does_not_read_the_others_go_on() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let follower = following(&bob);

    let mut unknown = Face::greeted(&bob);
    unknown.say("{\"id\":1,\"call\":{\"fly\":{\"to\":\"the moon\"}}}\n");
    let answer = unknown.hears();
    assert!(
        answer.contains("\"id\":1") && answer.contains("\"fault\""),
        "{answer}"
    );
    unknown.say("{\"id\":2,\"call\":{\"whoami\":{}}}\n");
    assert!(unknown.hears().contains("\"ok\":{\"address\":\"bob@"));
    unknown.say("{\"id\":3,\"call\":{\"cancel\":{\"id\":99}}}\n{\"id\":4,\"call\":{\"answer\":{\"ask\":1,\"answer\":\"x\"}}}\n");
    assert!(unknown.hears().contains("\"id\":3,\"ok\":null"));
    assert!(unknown.hears().contains("not open any more"));

    let mut newer = Face::at(&bob);
    newer.say("{\"hello\":{\"protocol\":99,\"program\":\"newer\"}}\n");
    assert!(newer.hears().contains("\"protocol\":1"));
    assert_eq!(newer.hears(), "", "hung up");

    for hostile in [
        "no JSON\n".to_owned(),
        "\n".to_owned(),
        "x".repeat(1 << 20),
        format!("{{\"hello\":{}\n", "[".repeat(60_000)),
    ] {
        let mut face = Face::at(&bob);
        face.say(&hostile);
        assert_eq!(face.hears(), "", "hung up");
        let mut face = Face::greeted(&bob);
        face.say(&hostile);
        assert_eq!(face.hears(), "", "hung up");
    }
    let mut half = Face::greeted(&bob);
    half.say("{\"id\":1,\"call\":");
    let mut deaf = Face::greeted(&bob);
    for n in 1..200 {
        deaf.say(&format!(
            "{{\"id\":{n},\"call\":{{\"history\":{{\"peer\":null,\"last\":100}}}}}}\n"
        ));
    }

    alice.run(&["send", "bob", "in spite of all"]).ok();
    shows(&follower, "in spite of all");
    beside(&bob, &["send", "alice", "and back"]).ok();
    assert_eq!(texts(&alice.run(&["recv", "--json"]).ok()), ["and back"]);
    drop((half, deaf, unknown));

    let crowd: Vec<Face> = (0..200).map(|_| Face::at(&bob)).collect();
    alice.run(&["send", "bob", "in the crowd"]).ok();
    shows(&follower, "in the crowd");
    drop(crowd);
    beside(&bob, &["send", "alice", "when they are gone"]).ok();
    drop(follower.stop());
}

/// An agent that holds a home; locked.
fn agent(home: &Home) -> Running {
    let mut command = Command::new(program("hostchat"));
    command.arg("--home").arg(&home.folder);
    let agent = Running::start(command.args(["agent", "run"]).stdin(Stdio::null()));
    agent.wait_out("that it holds the account", |line| {
        line.contains("this agent holds the account").then_some(())
    });
    agent
}

#[test]
fn an_agent_that_is_unlocked_once_serves_every_terminal_until_it_is_locked() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    beside(&bob, &["unlock"]).refused(15, "hint: `hostchat agent run` starts one");
    let agent = agent(&bob);
    beside(&bob, &["agent", "run"]).refused(18, &format!("(process {})", agent.pid()));
    beside(&bob, &["whoami"]).refused(2, "--pin-file");
    fs::write(world.path("wrong"), "not the passphrase\n").expect("written");
    let wrong = world.path("wrong");
    let wrong = ["unlock", "--pin-file", wrong.to_str().expect("UTF-8")];
    beside(&bob, &wrong).refused(4, "wrong passphrase");
    bob.run(&["unlock"]).ok();

    // What comes while nobody looks waits, confirmed to its sender, until somebody does.
    alice.run(&["send", "bob", "while nobody looks"]).ok();
    let unconfirmed = || alice.run(&["status", "--json"]).ok().json()[0]["unconfirmed"].clone();
    while unconfirmed() != 0 {
        alice.run(&["recv"]).ok();
    }
    assert_eq!(
        texts(&beside(&bob, &["recv", "--json"]).ok()),
        ["while nobody looks"]
    );
    assert!(texts(&beside(&bob, &["recv", "--json"]).ok()).is_empty());

    let mut command = Command::new(program("hostchat"));
    command.arg("--home").arg(&bob.folder);
    let follower = Running::start(
        command
            .args(["recv", "--follow", "--json"])
            .stdin(Stdio::null()),
    );
    shows(&follower, "\"listening\"");
    alice.run(&["send", "bob", "to the terminal"]).ok();
    shows(&follower, "to the terminal");
    beside(&bob, &["reply", "from another"]).ok();
    assert_eq!(
        texts(&alice.run(&["recv", "--json"]).ok()),
        ["from another"]
    );

    beside(&bob, &["lock"]).ok();
    follower
        .end()
        .refused(4, "the home was locked")
        .refused(4, "`hostchat unlock` opens it again");
    beside(&bob, &["history"]).refused(2, "--pin-file");
    alice.run(&["send", "bob", "while it is locked"]).ok();
    bob.run(&["unlock"]).ok();
    assert_eq!(
        texts(&beside(&bob, &["recv", "--json"]).ok()),
        ["while it is locked"]
    );
    beside(&bob, &["agent", "stop"]).ok();
    agent.end().ok();
    beside(&bob, &["agent", "stop"]).refused(15, "no agent runs");
}

#[test]
fn codes_are_shown_and_typed_while_everything_else_goes_on() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let (carol, dave) = (world.home("carol", &relay), world.home("dave", &relay));
    pair(&world, &bob, &dave);
    let agent = agent(&bob);
    bob.run(&["unlock"]).ok();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(program("hostchat"));
        command.arg("--home").arg(&bob.folder).args(arguments);
        Running::start_with_pipe(&mut command)
    };
    let (showing, _) = start(&["send", "alice", "with a code", "--code", "print"]);
    let code = code_of(&showing);
    beside(&bob, &["send", "dave", "beside", "--code", "print"])
        .refused(9, "a code for alice@")
        .refused(9, "hint: nothing was sent or kept");
    assert_eq!(beside(&bob, &["outbox", "--json"]).ok().json().len(), 1);

    let asking = carol.start(&["send", "bob", "carol's text", "--code", "print"]);
    let typed = code_of(&asking);
    let (typing, mut keyboard) = start(&["accept", "carol", "--code-file", "-"]);
    // Neither keeps a message back.
    dave.run(&["send", "bob", "in between"]).ok();
    assert_eq!(
        texts(&beside(&bob, &["recv", "--json"]).ok()),
        ["in between"]
    );
    beside(&bob, &["send", "dave", "and back"]).ok();
    assert_eq!(texts(&dave.run(&["recv", "--json"]).ok()), ["and back"]);

    writeln!(keyboard, "{typed}").expect("typed");
    let typing = typing.end().ok();
    assert!(typing.out.contains("carol's text"), "{typing}");
    asking.end().ok();
    let accepted = alice.run_with_input(&["accept", "bob", "--code-file", "-", "--json"], &code);
    assert_eq!(texts(&accepted.ok()), ["with a code"]);
    showing.end().ok();
    for (home, name) in [(&alice, "alice"), (&carol, "carol")] {
        let contacts = beside(&bob, &["contacts", "--json"]).ok().json();
        let of = contacts.iter().find(|contact| contact["name"] == name);
        assert_eq!(of.expect("a contact")["status"], "verified by code");
        home.run(&["send", "bob", "thanks"]).ok();
    }
    // A command that goes ends its code, and only that.
    let (showing, _) = start(&["send", "alice", "never typed", "--code", "print"]);
    code_of(&showing);
    showing.kill();
    let mut thanks = texts(&beside(&bob, &["recv", "--json"]).ok());
    thanks.sort();
    assert_eq!(thanks, ["thanks", "thanks"]);
    let (showing, _) = start(&["send", "dave", "another", "--code", "print"]);
    code_of(&showing);
    showing.signal(Signal::INT);
    showing.end().refused(130, "interrupted");
    drop(agent.stop());
}

#[test]
fn a_home_that_is_deleted_under_an_agent_takes_in_nothing_more() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let agent = agent(&bob);
    bob.run(&["unlock"]).ok();
    beside(&bob, &["recv"]).ok();
    let mut face = Face::greeted(&bob);
    let elsewhere = world.path("elsewhere");
    fs::rename(&bob.folder, &elsewhere).expect("moved");
    alice.run(&["send", "bob", "too late for that agent"]).ok();
    face.say("{\"id\":1,\"call\":{\"receive\":{\"follow\":false}}}\n");
    let answer = face.hears();
    assert!(answer.contains("\"kind\":\"not_initialised\""), "{answer}");
    agent.kill();
    // It was not acknowledged: whoever has the home gets it.
    fs::rename(&elsewhere, &bob.folder).expect("moved back");
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["too late for that agent"]
    );
}
