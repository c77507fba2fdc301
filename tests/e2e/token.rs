//! `hostchat token`: a token by itself, and one that is unplugged while somebody waits.

use hostchat_tests::{Home, World};

use crate::support::{events, pair};

fn lifecycle(home: &Home) -> String {
    let shown = home.run(&["token", "--json"]).ok();
    let event = &events(&shown, "token")[0];
    event["lifecycle"].as_str().expect("a word").to_owned()
}

/// What the token says that it was asked, and whether it was done.
fn log(home: &Home) -> Vec<(String, bool)> {
    let log = home.run(&["token", "log", "--json"]).ok();
    events(&log, "request")
        .iter()
        .flat_map(|request| {
            let kind = request["kind"].as_str().expect("a word").to_owned();
            let count = request["count"].as_u64().expect("a number");
            (0..count).map(move |_| (kind.clone(), request["done"] == true))
        })
        .collect()
}

#[test]
fn a_token_is_set_up_used_and_erased_without_an_account() {
    let world = World::new();
    let relay = world.relay();
    let sim = world.sim("token");
    let alice = world.bare_home("alice", Some(sim.link.clone()));
    let bob = world.home("bob", &relay);
    assert_eq!(lifecycle(&alice), "blank");
    alice
        .run(&["token", "sessions"])
        .refused(5, "the token is blank");
    alice.run(&["token", "init"]).ok();
    assert_eq!(lifecycle(&alice), "ready");
    let asked = log(&alice);
    assert_eq!(
        asked,
        [("init".to_owned(), true), ("unlock".to_owned(), true)]
    );
    alice
        .run(&["token", "init"])
        .refused(5, "initialised already");
    assert!(!alice.folder.exists(), "no home was made");
    let shown = alice.run(&["token", "info"]).ok().out;
    for line in ["board      sim", "PIN tries  8 in all", "protection "] {
        assert!(shown.contains(line), "{line}: {shown}");
    }

    alice.init(&relay);
    pair(&world, &bob, &alice);
    let listed = alice.run(&["token", "sessions", "--json"]).ok();
    let session = &events(&listed, "session")[0];
    let address = session["peer"].as_str().expect("an address").to_owned();
    assert!(address.starts_with("bob@"));
    assert_eq!(
        (&session["by_code"], &session["sessions"]),
        (&true.into(), &1.into())
    );
    let before = events(&listed, "status")[0]["sessions_free"]
        .as_u64()
        .expect("a number");

    alice
        .run(&["token", "sessions", "--delete", "bob"])
        .refused(2, "bob is not an address NAME@HOST:PORT");
    let stranger = address.replace("bob", "carol");
    alice
        .run(&["token", "sessions", "--delete", &stranger])
        .refused(10, "no contact named carol@");
    alice.run(&["token", "sessions", "--delete", &address]).ok();
    let listed = alice.run(&["token", "sessions", "--json"]).ok();
    assert!(events(&listed, "session").is_empty(), "{listed}");
    let after = events(&listed, "status")[0]["sessions_free"].as_u64();
    assert_eq!(after, Some(before + 1));

    let new_pin = world.path("new.pin");
    std::fs::write(&new_pin, "another PIN\n").expect("written");
    let new_pin = new_pin.to_string_lossy();
    alice
        .run(&["token", "change-pin", "--new-pin-file", &new_pin])
        .ok();
    alice.run(&["token", "sessions"]).refused(4, "wrong PIN");

    std::fs::write(world.path("alice.pin"), "another PIN\n").expect("written");
    let asked = log(&alice);
    let ended: Vec<_> = asked
        .iter()
        .rev()
        .map(|(kind, done)| (kind.as_str(), *done))
        .take(3)
        .collect();
    assert_eq!(
        ended,
        [("unlock", true), ("unlock", false), ("change_pin", true)]
    );
    for kind in ["open", "forget"] {
        assert!(
            asked.contains(&(kind.to_owned(), true)),
            "{kind}: {asked:?}"
        );
    }
    assert!((20..=32).contains(&asked.len()), "{} entries", asked.len());

    alice
        .run(&["token", "wipe"])
        .refused(2, "`token wipe` needs --yes");
    alice.run(&["token", "wipe", "--yes"]).ok();
    assert_eq!(lifecycle(&alice), "blank");
    alice.run(&["whoami"]).refused(5, "the token is blank");
    bob.run(&["token", "wipe", "--yes"])
        .refused(2, "name the token with --token PORT");
    bob.run(&["token", "init"])
        .refused(2, "name the token with --token PORT");
    bob.run(&["token", "sessions"]).ok();
}

#[test]
fn who_follows_goes_on_when_the_token_is_plugged_in_again() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    pair(&world, &bob, &alice);
    let following = alice.start(&["recv", "--follow", "--json"]);
    let send = |text: &str| {
        bob.run(&["send", "alice", text]).ok();
        following.wait_out("the message", |line| line.contains(text).then_some(()));
    };
    send("before");
    sim.unplug();
    // It is noticed when it is needed.
    bob.run(&["send", "alice", "meanwhile"]).ok();
    following.wait_out("the note", |line| {
        line.contains("plug it in again to go on").then_some(())
    });
    sim.start_with("always");
    following.wait_out("the message", |line| {
        line.contains("meanwhile").then_some(())
    });
    send("after");
    following.stop();
}

#[test]
fn without_a_token_at_the_usb_auto_says_so() {
    let ports = std::fs::read_dir("/sys/class/tty").expect("sysfs");
    if ports
        .flatten()
        .any(|port| port.file_name().to_string_lossy().starts_with("ttyACM"))
    {
        println!("passed over: there is a USB serial port here, perhaps a token");
        return;
    }
    let world = World::new();
    world
        .bare_home("alice", Some("auto".into()))
        .run(&["token"])
        .refused(5, "no token is plugged in");
}
