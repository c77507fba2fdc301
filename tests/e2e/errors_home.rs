//! Homes that are damaged, foreign, in use, or on a full disk.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use hostchat_tests::{Ended, Home, Running, World};

use crate::support::{as_nobody, events, pair, texts};

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    let opened = OpenOptions::new().write(true).open(file).expect("opened");
    opened.write_all_at(bytes, at).expect("overwritten");
}

/// Copies the account's files, so that a test can put them back.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for name in ["config.toml", "token.flash", "vault.db"] {
        fs::copy(from.join(name), to.join(name)).expect("copied");
    }
    for name in ["vault.db-wal", "vault.db-shm"] {
        let _ = fs::remove_file(to.join(name));
    }
}

#[test]
fn a_home_that_is_not_there_or_half_made_says_how_to_make_one() {
    let world = World::new();
    let nobody = world.bare_home("nobody", None);
    for arguments in [
        &["recv"][..],
        &["send", "bob", "x"],
        &["whoami"],
        &["token"],
    ] {
        nobody.run(arguments).refused(3, "nobody").refused(
            3,
            "hint: `hostchat init --relay HOST:PORT --name NAME` makes one",
        );
    }
    assert!(!nobody.folder.exists(), "asking makes no home");
    // The relay is away while an account is made: the same command goes on later, with the same identity.
    let mut relay = world.relay();
    relay.stop();
    let init = [
        "init",
        "--relay",
        &relay.address.clone(),
        "--name",
        "nobody",
    ];
    nobody.run(&init).refused(6, "cannot reach the relay");
    nobody.run(&["recv"]).refused(3, "hint: `hostchat init");
    relay.start();
    nobody.run(&init).ok();
    nobody
        .run(&init)
        .refused(3, "nobody@")
        .refused(3, "hint: use it, give another --home, or `hostchat wipe`");
}

#[test]
fn a_damaged_vault_is_told_and_left_as_it_is() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let vault = alice.folder.join("vault.db");
    let good = world.path("good");
    copy(&alice.folder, &good);
    let length = fs::metadata(&vault).expect("vault").len();

    let damage: [(&str, &dyn Fn()); 4] = [
        ("another file", &|| {
            fs::write(
                &vault,
                "this is no database, and rather long for one".repeat(200),
            )
            .expect("written");
        }),
        ("its head", &|| overwrite(&vault, 0, &[0xa5; 100])),
        ("cut to a half", &|| {
            let file = OpenOptions::new().write(true).open(&vault).expect("opened");
            file.set_len(length / 2).expect("cut");
        }),
        ("its pages", &|| {
            for page in 1..length / 4096 {
                overwrite(&vault, page * 4096, &[0xff; 4096]);
            }
        }),
    ];
    for (what, damage) in damage {
        damage();
        let before = fs::read(&vault).expect("vault");
        let ended = alice.run(&["history", "bob"]);
        assert_eq!(ended.code(), 12, "{what}: {ended}");
        assert!(ended.err.contains("vault.db is damaged"), "{what}: {ended}");
        assert!(
            ended.err.contains("hint: restore vault.db from a backup"),
            "{what}: {ended}"
        );
        assert!(
            fs::read(&vault).expect("vault") == before,
            "{what}: left as it is"
        );
        copy(&good, &alice.folder);
    }
    // A sealed text that was altered is not shown as if it were one.
    let database = rusqlite::Connection::open(&vault).expect("vault");
    let altered = database
        .execute("UPDATE messages SET body = zeroblob(length(body))", [])
        .expect("altered");
    assert!(altered > 0);
    drop(database);
    let ended = alice.run(&["history", "bob"]);
    assert_eq!(ended.code(), 12, "{ended}");
    copy(&good, &alice.folder);

    let database = rusqlite::Connection::open(&vault).expect("vault");
    database
        .pragma_update(None, "user_version", 1_000_000)
        .expect("set");
    drop(database);
    alice
        .run(&["history", "bob"])
        .refused(12, "was made by a newer hostchat (format 1000000")
        .refused(12, "hint: update hostchat");
    copy(&good, &alice.folder);
    let history = alice.run(&["history", "bob", "--json"]).ok();
    assert_eq!(events(&history, "history").len(), 1);
}

#[test]
fn a_damaged_token_file_is_told_and_can_be_wiped() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let token = alice.folder.join("token.flash");
    let good = world.path("good");
    copy(&alice.folder, &good);
    let length = fs::metadata(&token).expect("token").len();

    for cut in [0, 1, length / 2, length - 1] {
        let file = OpenOptions::new().write(true).open(&token).expect("opened");
        file.set_len(cut).expect("cut");
        alice
            .run(&["whoami"])
            .refused(5, "token.flash is damaged")
            .refused(5, RESTORE);
        copy(&good, &alice.folder);
    }
    for filler in [0, 0xff] {
        let whole = vec![filler; usize::try_from(length).expect("small")];
        overwrite(&token, 0, &whole);
        for command in COMMANDS {
            alice.run(command).refused(5, RESTORE);
        }
        alice
            .run(&["init", "--relay", &relay.address, "--name", "alice"])
            .refused(5, RESTORE);
    }
    // What the hint says works, also where the file is not even of the right length.
    let file = OpenOptions::new().write(true).open(&token).expect("opened");
    file.set_len(length / 2).expect("cut");
    alice.run(&["wipe", "--yes", "--local"]).ok();
    assert!(!token.exists());
    alice
        .run(&["init", "--relay", &relay.address, "--name", "alice2"])
        .ok();
}

/// What helps where a software token has lost its keys.
const RESTORE: &str = "hint: restore a backup of this home, with all its files. Without one the keys are lost: \
                       `hostchat wipe --local --yes` empties this home";

/// Commands that need the token of a home, each in its way.
const COMMANDS: [&[&str]; 10] = [
    &["recv"],
    &["send", "bob", "x"],
    &["accept"],
    &["contacts"],
    &["outbox"],
    &["status"],
    &["whoami"],
    &["token", "sessions"],
    &["change-pin"],
    &["wipe", "--yes"],
];

#[test]
fn a_missing_token_file_is_told_by_every_command_and_only_init_makes_one() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let token = alice.folder.join("token.flash");
    let good = world.path("good");
    copy(&alice.folder, &good);
    fs::remove_file(&token).expect("deleted");
    let init = ["init", "--relay", &relay.address, "--name", "alice"];
    for command in COMMANDS.into_iter().chain([&init[..]]) {
        alice
            .run(command)
            .refused(5, "token.flash is missing")
            .refused(5, RESTORE);
        assert!(!token.exists(), "{command:?} makes no token");
    }
    // What the hint says first works.
    copy(&good, &alice.folder);
    alice.run(&["send", "bob", "restored"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["restored"]);
    // And so does the other way out.
    fs::remove_file(&token).expect("deleted");
    alice.run(&["wipe", "--yes", "--local"]).ok();
    alice
        .run(&["init", "--relay", &relay.address, "--name", "alice2"])
        .ok();
}

#[test]
fn a_damaged_token_file_of_an_init_that_did_not_end_leads_into_no_circle() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.bare_home("alice", None);
    fs::create_dir_all(&alice.folder).expect("made");
    fs::write(alice.folder.join("token.flash"), "cut").expect("written");
    let init = ["init", "--relay", &relay.address, "--name", "alice"];
    alice
        .run(&init)
        .refused(5, "token.flash is damaged")
        .refused(5, RESTORE);
    alice.run(&["wipe", "--yes", "--local"]).ok();
    alice.run(&init).ok();
}

#[test]
fn a_configuration_that_cannot_be_read_is_told() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    let config = alice.folder.join("config.toml");
    let good = fs::read(&config).expect("config");
    let half = good.get(..good.len() / 2).unwrap_or_default().to_vec();
    for bad in [b"".to_vec(), half, b"\x1b]0;x\x07".to_vec(), vec![0xff; 64]] {
        fs::write(&config, &bad).expect("written");
        let ended = alice
            .run(&["whoami"])
            .refused(3, "config.toml cannot be used: ")
            .refused(3, "hint: repair the file by hand or from a backup");
        assert!(!ended.err.contains('\u{1b}'), "{ended}");
        assert_eq!(fs::read(&config).expect("config"), bad);
    }
    fs::write(&config, good).expect("written");
    alice.run(&["whoami"]).ok();
}

#[test]
fn a_pipe_in_place_of_a_file_is_told_and_nothing_waits_for_its_other_end() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    for (name, code, told) in [
        ("token.flash", 5, "is damaged"),
        ("vault.db", 12, "it is not a file"),
        ("config.toml", 3, "it is no file of an account"),
    ] {
        let (file, aside) = (alice.folder.join(name), world.path("aside"));
        fs::rename(&file, &aside).expect("moved");
        let made = Command::new("mkfifo").arg(&file).status();
        assert!(made.is_ok_and(|status| status.success()));
        alice.run(&["history"]).refused(code, told);
        fs::remove_file(&file).expect("removed");
        fs::rename(&aside, &file).expect("moved back");
    }
    alice.run(&["history"]).ok();
}

#[test]
fn files_of_two_homes_do_not_mix() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    // Bob's token with bob's passphrase, in alice's home.
    let (old, own) = (alice.folder.join("token.flash"), world.path("alice.flash"));
    fs::rename(&old, &own).expect("moved");
    fs::copy(bob.folder.join("token.flash"), &old).expect("copied");
    let pin = world.path("alice.pin");
    let own_pin = fs::read(&pin).expect("PIN");
    alice.run(&["history"]).refused(4, "wrong passphrase");
    fs::copy(world.path("bob.pin"), &pin).expect("copied");
    alice
        .run(&["history"])
        .refused(12, "was sealed by another token")
        .refused(
            12,
            "hint: plug in the right token or give its home with --home",
        );
    fs::write(&pin, own_pin).expect("written");
    fs::rename(&own, &old).expect("moved");
    assert_eq!(
        events(&alice.run(&["history", "--json"]).ok(), "history").len(),
        1
    );
}

#[test]
fn a_path_without_permission_or_place_is_told() {
    let world = World::new();
    let file = world.path("a-file");
    fs::write(&file, "").expect("written");
    let mut home = world.bare_home("alice", None);
    home.folder = file.join("home");
    home.run(&["init", "--relay", "127.0.0.1:9", "--name", "alice"])
        .refused(14, "cannot make the directory")
        .refused(
            14,
            "hint: check the path, the permissions and the room on the disk",
        );
    let missing = world.path("missing.pin");
    let alice = world.bare_home("alice", None);
    fs::rename(world.path("alice.pin"), &missing).expect("moved");
    alice
        .run(&["init", "--relay", "127.0.0.1:9", "--name", "alice"])
        .refused(14, "alice.pin: No such file");
}

/// Runs `hostchat` in a shell script that has the program and its arguments as `$@`.
fn run_in(script: &str, home: &Home, arguments: &[&str]) -> Ended {
    let plain = home.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(plain.get_program());
    Running::start(shell.args(plain.get_args()).stdin(Stdio::null())).end()
}

/// Runs `hostchat` with its home on a disk of a few pages more than what is in it: a file system in memory, mounted for
/// this process only. `None` where the system does not let us mount one.
fn run_on_full_disk(home: &Home, arguments: &[&str]) -> Option<Ended> {
    let root = rustix::process::geteuid().is_root();
    let space = format!(
        "unshare {} --mount",
        if root { "" } else { "--map-root-user" }
    );
    let small = "mount -t tmpfs -o size=64k hostchat";
    let probe = format!("{space} sh -c '{small} /mnt' 2>/dev/null");
    let probed = Command::new("sh").args(["-c", &probe]).status();
    if !probed.is_ok_and(|status| status.success()) {
        println!("no file system can be mounted here");
        return None;
    }
    let folder = home.folder.display();
    let aside = home.folder.with_extension("aside");
    copy(&home.folder, &aside);
    // As large as what is in it, then filled up: not one page is free.
    let inner = format!(
        "mount -t tmpfs -o size=$(du -sk {aside} | cut -f1)k,mode=700 hostchat {folder} && \
         cp {aside}/* {folder}/ && touch {folder}/lock && \
         {{ cat /dev/zero > {folder}/filler 2>/dev/null; exec \"$0\" \"$@\"; }}",
        aside = aside.display()
    );
    let script = format!("exec {space} sh -c '{inner}' \"$@\"");
    Some(run_in(&script, home, arguments))
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["send", "bob", "waits at the relay"]).ok();

    for (home, arguments) in [
        (&alice, &["send", "bob", "no place to keep this"][..]),
        (&bob, &["recv", "--json"]),
    ] {
        let Some(ended) = run_on_full_disk(home, arguments) else {
            continue;
        };
        assert_eq!(ended.code(), 14, "{ended}");
        assert!(
            ended
                .err
                .contains("make room on the disk and repeat the command"),
            "{ended}"
        );
        assert_eq!(ended.out, "", "{ended}");
    }
    // Where a file may not grow any more it is the same, in the words of another error.
    for (home, arguments) in [
        (&alice, &["send", "bob", "no place to keep this"][..]),
        (&bob, &["recv"]),
    ] {
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
        let ended = run_in(script, home, arguments);
        assert!(matches!(ended.code(), 12 | 14), "{ended}");
        assert!(ended.err.contains("disk"), "{ended}");
        assert_eq!(ended.out, "", "{ended}");
    }
    // With room again everything is as before, and what was promised comes.
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["waits at the relay"]
    );
    alice.run(&["send", "bob", "room again"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["room again"]);

    let carol = world.bare_home("carol", None);
    let init = ["init", "--relay", &relay.address, "--name", "carol"];
    let ended = run_in("trap '' XFSZ; ulimit -f 8; exec \"$@\"", &carol, &init);
    assert_eq!(ended.code(), 14, "{ended}");
    carol.run(&init).ok();
}

#[test]
fn a_home_of_somebody_else_names_its_owner() {
    if !rustix::process::geteuid().is_root() {
        println!("LEFT OUT: only root can become somebody else");
        return;
    }
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    let before = fs::read(alice.folder.join("vault.db")).expect("vault");
    // Above the home, at the home, and in it.
    for (open, closed) in [(0o700, 0o700), (0o755, 0o700), (0o755, 0o755)] {
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(open)).expect("opened");
        fs::set_permissions(&alice.folder, fs::Permissions::from_mode(closed)).expect("opened");
        let home = alice.folder.to_str().expect("UTF-8");
        as_nobody(&["--home", home, "whoami"])
            .refused(3, "you may not use the directory ")
            .refused(3, ": it belongs to the user root")
            .refused(3, "hint: run hostchat as that user");
    }
    assert_eq!(
        fs::read(alice.folder.join("vault.db")).expect("vault"),
        before
    );
    alice.run(&["whoami"]).ok();
}

#[test]
fn files_that_others_could_read_are_closed_and_a_directory_that_they_can_change_is_told() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let token = alice.folder.join("token.flash");
    assert_eq!(alice.run(&["whoami"]).ok().err, "");
    fs::set_permissions(&alice.folder, fs::Permissions::from_mode(0o777)).expect("opened");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("opened");
    let told = alice.run(&["whoami"]).ok().err;
    let file = format!(
        "note: other users could open {} (mode 644)",
        token.display()
    );
    let folder = format!("close it with `chmod go-w {}`", alice.folder.display());
    assert!(told.contains(&file) && told.contains(&folder), "{told}");
    assert_eq!(mode(&token), 0o600);
    // What is told to do helps.
    let ended = Command::new("chmod")
        .arg("go-w")
        .arg(&alice.folder)
        .status();
    assert!(ended.expect("chmod").success());
    assert_eq!(alice.run(&["whoami"]).ok().err, "");
}
