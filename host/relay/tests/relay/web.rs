//! The admin page over plain HTTP: who gets in, what it shows, what it changes, and what it never does.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hostchat_core::wire::relay::{Account, Call, Reason};
use hostchat_relay::{Config, Registration};
use rustix::process::{Pid, Signal, kill_process};

use crate::admin::admin;
use crate::client::{Client, Got, Person};
use crate::harness::{Process, TestRelay, configure, init};
use crate::operator::raw;
use crate::page::{PASSWORD, Page, set_password};

/// Every page that only who is logged in may see.
const PAGES: [&str; 5] = [
    "/admin",
    "/admin/users",
    "/admin/log",
    "/admin/invitations",
    "/admin/limits",
];

#[tokio::test]
async fn there_is_no_page_without_a_password() {
    let page = Page::start(|_| {}).await;
    let folder = page.relay.folder.path();
    let off = admin(folder, &["password", "--off"]).await;
    assert!(off.status.success(), "{off:?}");
    for path in PAGES.iter().chain(&["/admin/login", "/admin/style.css"]) {
        let answer = page.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("password"), "{}", answer.body);
    }
    assert_eq!(page.log_in(PASSWORD).await.status, 404);
    assert_eq!(page.log_in("").await.status, 404);

    // A file that is no Argon2id hash lets nobody in.
    for wrong in [
        "",
        "plain text",
        "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA",
    ] {
        std::fs::write(folder.join("admin.password"), wrong).unwrap();
        assert_eq!(page.log_in(wrong).await.status, 500, "{wrong}");
    }
    std::fs::write(folder.join("admin.password"), "$argon2id$").unwrap();
    assert_eq!(page.log_in("$argon2id$").await.status, 403);

    let short = folder.join("short");
    std::fs::write(&short, "elevenbytes\n").unwrap();
    let refused = admin(folder, &["password", "--file", short.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[tokio::test]
async fn only_the_password_opens_it_and_the_cookie_is_strict() {
    let mut page = Page::start(|_| {}).await;
    for path in PAGES {
        let answer = page.get(path).await;
        assert_eq!(answer.header("Location"), Some("/admin/login"), "{path}");
        assert_eq!((answer.status, answer.body.as_str()), (303, ""));
    }
    let form = page.get("/admin/login").await;
    assert!(form.status == 200 && form.body.contains("type=\"password\""));
    for wrong in ["", "correct horse", "correct horse & battery=staple "] {
        let answer = page.log_in(wrong).await;
        assert_eq!((answer.status, answer.header("Set-Cookie")), (403, None));
        assert!(!answer.body.contains("correct"), "{}", answer.body);
    }
    let answer = page.log_in(PASSWORD).await;
    assert_eq!(answer.header("Location"), Some("/admin"));
    let cookie = answer.cookie().to_owned();
    let (value, rest) = cookie.split_once("; ").unwrap();
    assert_eq!(rest, "Path=/admin; HttpOnly; SameSite=Strict");
    assert_eq!(value.len(), "hostchat_relay_admin=".len() + 64);
    page.cookie = format!("{}0", &value[..value.len() - 1]);
    let forged = page.get("/admin").await.status;
    page.cookie = format!("{}1", &value[..value.len() - 1]);
    assert!(forged == 303 || page.get("/admin").await.status == 303);
    page.cookie = value.to_owned();
    for path in PAGES {
        assert_eq!(page.get(path).await.status, 200, "{path}");
    }
    assert_eq!(page.get("/admin/login").await.status, 303);
    for nothing in ["/admin/other", "/admin/../admin", "/admin/users/x"] {
        assert_eq!(page.get(nothing).await.status, 404, "{nothing}");
    }
}

#[tokio::test]
async fn wrong_guesses_slow_each_other_down_and_lock_nobody_out_who_knows_the_password() {
    let page = Arc::new(Page::start(|_| {}).await);
    for _ in 0..5 {
        assert_eq!(page.log_in("a wrong password").await.status, 403);
    }
    // Beyond that they take turns. Those for which there is no room are told so, and show that the others wait.
    for password in ["another wrong one", PASSWORD] {
        let attempts: Vec<_> = (0..7)
            .map(|_| {
                let page = Arc::clone(&page);
                tokio::spawn(async move { page.log_in(password).await })
            })
            .collect();
        let done = || attempts.iter().filter(|a| a.is_finished()).count();
        for turn in 0..=4 {
            while done() < 3 + turn {
                tokio::task::yield_now().await;
            }
            page.relay.clock.advance(999);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(done(), 3 + turn, "one turn a second");
            page.relay.clock.advance(1);
        }
        let (mut busy, mut answered) = (0, 0);
        for attempt in attempts {
            let answer = attempt.await.unwrap();
            match answer.status {
                429 => {
                    assert_eq!(answer.header("Retry-After"), Some("4"));
                    assert!(answer.body.contains("Try again in a few seconds."));
                    busy += 1;
                }
                303 if password == PASSWORD => answered += 1,
                403 if password != PASSWORD => answered += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!((busy, answered), (3, 4));
    }

    // Who typed the password has guessed nothing: logging in is no limit on logging in.
    page.relay.clock.advance(30_000);
    for _ in 0..10 {
        assert_eq!(page.log_in(PASSWORD).await.status, 303);
    }
}

#[tokio::test]
async fn sessions_end_by_silence_by_logging_out_and_by_a_new_password() {
    let mut page = Page::enter(|_| {}).await;
    page.relay.clock.advance(29 * 60_000);
    assert_eq!(page.get("/admin").await.status, 200);
    page.relay.clock.advance(30 * 60_000);
    assert_eq!(page.get("/admin").await.status, 303);

    let again = page.log_in(PASSWORD).await;
    page.cookie = again.cookie().split(';').next().unwrap().to_owned();
    let csrf = page.csrf().await;
    assert_eq!(page.post("/admin/logout", &[]).await.status, 403);
    assert_eq!(page.get("/admin").await.status, 200, "still there");
    let out = page.post("/admin/logout", &[("csrf", &csrf)]).await;
    assert_eq!(out.header("Location"), Some("/admin/login"));
    assert!(out.cookie().starts_with("hostchat_relay_admin=; "));
    assert!(out.cookie().ends_with("; Max-Age=0"));
    assert_eq!(
        page.get("/admin").await.status,
        303,
        "the cookie is worth nothing"
    );

    let again = page.log_in(PASSWORD).await;
    page.cookie = again.cookie().split(';').next().unwrap().to_owned();
    assert_eq!(page.get("/admin").await.status, 200);
    set_password(page.relay.folder.path(), "another long password");
    assert_eq!(page.get("/admin").await.status, 303);
    assert_eq!(page.log_in(PASSWORD).await.status, 403);
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_run_nothing_and_are_not_kept() {
    let page = Page::enter(|config| config.audit.log_days = 7).await;
    drop(Client::register(&page.relay.place, &Person::new("alice")).await);
    let mut paths = PAGES.to_vec();
    paths.extend([
        "/admin/user?name=alice",
        "/admin/user?name=nobody",
        "/admin/style.css",
    ]);
    paths.extend(["/admin/log?since=nonsense", "/admin/other"]);
    for path in paths {
        let answer = page.get(path).await;
        let policy = answer.header("Content-Security-Policy").expect(path);
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'; "),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        for (name, value) in [
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "same-origin"),
            ("X-Frame-Options", "DENY"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let body = answer.body.replace("http://www.w3.org/2000/svg", "");
        for forbidden in ["<script", "<style", " style=", "javascript:", "://", " on"] {
            let found = body.find(forbidden).map(|at| &body[at..]);
            // A word that begins with "on" is no handler unless it is an attribute.
            let handler = |rest: &&str| {
                forbidden != " on"
                    || rest
                        .split([' ', '>'])
                        .nth(1)
                        .is_some_and(|w| w.contains("=\""))
            };
            assert_eq!(found.filter(handler), None, "{path}: {forbidden}");
        }
        for attribute in ["href=\"", "src=\"", "action=\""] {
            for target in body.split(attribute).skip(1) {
                assert!(target.starts_with("/admin"), "{path}: {target:.40}");
            }
        }
        if answer.header("Content-Type") == Some("text/html; charset=utf-8") {
            assert!(body.contains("Nothing here can be decrypted"), "{path}");
        }
    }
}

#[tokio::test]
async fn users_traffic_and_storage_are_shown_without_contents() {
    let page = Page::enter(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&page.relay.place, &alice).await;
    drop(Client::register(&page.relay.place, &bob).await);
    for id in 0..3 {
        let body = [b"canary-c0ffee".as_slice(), &[0; 1200]].concat();
        assert!(from.send(&bob, id, &body).await.is_stored());
    }
    let mut users = page.get("/admin/users").await.body;
    let cells = |body: &str, name: &str| {
        let (_, row) = body
            .split_once(&format!("name={name}\">{name}</a>"))
            .unwrap();
        let (row, _) = row.split_once("</tr>").unwrap();
        let cells = row.split("<td").skip(1);
        let texts = cells.map(|cell| cell.split_once('>').unwrap().1.replace("</td>", ""));
        texts.collect::<Vec<_>>()
    };
    // The relay notices soon that bob has gone, and keeps the day of a login without waiting for it.
    while cells(&users, "bob")[1] != "no" || cells(&users, "alice")[2] == "unknown" {
        users = page.get("/admin/users").await.body;
    }
    let day = "2026-09-21";
    let expected = ["active", "yes (1)", day, day, "0", "0 B", "0", "0", "0 B"];
    assert_eq!(cells(&users, "alice"), expected);
    let bobs = cells(&users, "bob");
    assert_eq!(bobs[3..], [day, "3", "3.5 KiB", "0", "0", "0 B"]);
    let one = page.get("/admin/user?name=bob").await.body;
    for says in ["3 of 10,000 (0 %)", "3.5 KiB of 64.0 MiB", "0 of 8 (0 %)"] {
        assert!(one.contains(says), "{says}: {one}");
    }
    let overview = page.get("/admin").await.body;
    assert!(
        overview.contains("stored 3 (3.5 KiB), delivered 0 (0 B)"),
        "{overview}"
    );
    assert!(
        overview.contains("3 messages stored, 0 delivered"),
        "{overview}"
    );
    assert!(overview.contains("KiB now"), "{overview}");
    for path in PAGES {
        assert!(!page.get(path).await.body.contains("canary"), "{path}");
    }
    for wrong in [
        "",
        "?name=",
        "?name=nobody",
        "?name=%00%0d%0aX:y",
        "?name=Bob'--",
    ] {
        let answer = page.get(&format!("/admin/user{wrong}")).await;
        assert_eq!(answer.status, 404, "{wrong}");
        assert!(answer.body.contains("No account has this name."));
    }
}

#[tokio::test]
async fn a_user_is_removed_only_by_a_form_of_this_session_with_the_name_typed_again() {
    let page = Page::enter(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&page.relay.place, &alice).await;
    let mut to = Client::register(&page.relay.place, &bob).await;
    let csrf = page.csrf().await;
    let other = Page {
        operator: page.operator,
        cookie: page
            .log_in(PASSWORD)
            .await
            .cookie()
            .split(';')
            .next()
            .unwrap()
            .to_owned(),
        relay: TestRelay::start(|_| {}).await,
    };
    let others = other.csrf().await;
    assert_ne!(csrf, others);
    let bobs = [("name", "bob"), ("again", "bob")];
    for (fields, headers, status) in [
        (&bobs[..], "", 403),
        (&[bobs[0], bobs[1], ("csrf", "")], "", 403),
        (&[bobs[0], bobs[1], ("csrf", &others)], "", 403),
        (
            &[bobs[0], bobs[1], ("csrf", &csrf)],
            "Origin: http://evil.example\r\n",
            403,
        ),
        (
            &[bobs[0], bobs[1], ("csrf", &csrf)],
            "Sec-Fetch-Site: cross-site\r\n",
            403,
        ),
        (&[bobs[0], ("csrf", &csrf)], "", 400),
        (&[bobs[0], ("again", "alice"), ("csrf", &csrf)], "", 400),
        (
            &[("name", "zoe"), ("again", "zoe"), ("csrf", &csrf)],
            "",
            404,
        ),
        (
            &[("name", "'; --"), ("again", "'; --"), ("csrf", &csrf)],
            "",
            404,
        ),
    ] {
        let answer = page.post_from("/admin/remove", fields, headers).await;
        assert_eq!(answer.status, status, "{fields:?} {headers}");
    }
    let mut out = Page {
        cookie: String::new(),
        ..other
    };
    let fields = [bobs[0], bobs[1], ("csrf", &csrf)];
    assert_eq!(out.post("/admin/remove", &fields).await.status, 403);
    let query = format!("/admin/remove?name=bob&again=bob&csrf={csrf}");
    out.cookie.clone_from(&page.cookie);
    assert_eq!(out.get(&query).await.status, 404, "not by a link");
    assert!(matches!(to.call(Call::Ping).await, Got::Done(_)), "not yet");

    let origin = format!(
        "Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n",
        page.operator
    );
    let done = page.post_from("/admin/remove", &fields, &origin).await;
    assert_eq!(
        (done.status, done.header("Location")),
        (303, Some("/admin/users"))
    );
    assert_eq!(to.next().await.reason(), Some(Reason::UnknownName));
    let refused = from.send(&bob, 1, b"x").await;
    assert_eq!(refused.reason(), Some(Reason::UnknownName));
    let users = page.get("/admin/users").await.body;
    assert!(users.contains("alice") && !users.contains("bob"), "{users}");
}

#[tokio::test]
async fn invitations_are_made_shown_once_and_withdrawn() {
    let by_invitation = |config: &mut Config| config.registration = Registration::Invitation;
    let page = Page::enter(by_invitation).await;
    let csrf = page.csrf().await;
    assert_eq!(
        page.post("/admin/invite", &[("uses", "1")]).await.status,
        403
    );
    for wrong in ["0", "-1", "", "4294967296", "x"] {
        let answer = page
            .post("/admin/invite", &[("uses", wrong), ("csrf", &csrf)])
            .await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    let made = page
        .post("/admin/invite", &[("uses", "2"), ("csrf", &csrf)])
        .await;
    let (_, rest) = made.body.split_once("<p class=\"words\">").unwrap();
    let words = rest.split('<').next().unwrap().to_owned();
    assert_eq!(words.len(), 20, "{words}");
    let register = async |name: &str| {
        let person = Person::new(name);
        let mut client = Client::connect(&page.relay.place).await;
        let account = Account::Register {
            name: person.name.clone(),
            invitation: words.bytes().collect(),
        };
        let login = client.bound.login(&person, account);
        client.call(Call::Login(login)).await
    };
    assert!(matches!(register("alice").await, Got::Done(_)));
    let list = page.get("/admin/invitations").await.body;
    assert!(!list.contains(&words));
    let (_, rest) = list.split_once("name=\"id\" value=\"").unwrap();
    let id = rest.split('"').next().unwrap();
    let fields = [("id", id), ("csrf", csrf.as_str())];
    assert_eq!(page.post("/admin/withdraw", &fields).await.status, 303);
    assert_eq!(page.post("/admin/withdraw", &fields).await.status, 404);
    let refused = register("bob").await;
    assert_eq!(refused.reason(), Some(Reason::RegistrationClosed));
}

#[tokio::test]
async fn the_log_is_filtered_paged_and_says_when_it_is_off() {
    let off = Page::enter(|_| {}).await;
    let said = off.get("/admin/log").await.body;
    assert!(
        said.contains("This relay keeps no log of who wrote to whom."),
        "{said}"
    );
    drop(Client::register(&off.relay.place, &Person::new("zoe")).await);
    for path in ["/admin", "/admin/users", "/admin/user?name=zoe"] {
        let body = off.get(path).await.body;
        assert!(
            !body.contains("/admin/log\"") && !body.contains("/admin/log?"),
            "{path}"
        );
    }

    let page = Page::enter(|config| config.audit.log_days = 7).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&page.relay.place, &alice).await;
    let mut to = Client::register(&page.relay.place, &bob).await;
    for id in 0..130 {
        assert!(from.send(&bob, id, b"canary-5e").await.is_stored());
    }
    page.relay.clock.advance(60_000);
    assert!(to.send(&alice, 1, b"back").await.is_stored());
    let rows = |body: &str| body.matches("data-label=\"Time\"").count();
    let first = page.get("/admin/log").await.body;
    assert_eq!(rows(&first), 100);
    assert!(
        first.contains("From\">bob</td><td data-label=\"To\">alice</td>")
            && !first.contains("canary")
    );
    let (_, rest) = first.split_once("href=\"/admin/log?before=").unwrap();
    let before = rest.split('"').next().unwrap();
    let second = page.get(&format!("/admin/log?before={before}")).await.body;
    assert_eq!(rows(&second), 31);
    assert!(!second.contains(">Older<"));
    for (query, expected) in [
        ("from=bob", 1),
        ("to=alice&from=", 1),
        ("from=alice&to=alice", 0),
        ("since=30s", 1),
        ("until=30s&from=bob", 0),
        ("since=2026-09-21T14:14:20Z", 1),
        ("from=+bob+&to=+", 1),
    ] {
        let body = page.get(&format!("/admin/log?{query}")).await.body;
        assert_eq!(rows(&body), expected, "{query}");
    }
    // The filter goes along to the older ones.
    let filtered = page.get("/admin/log?from=alice").await.body;
    assert!(
        filtered.contains("/admin/log?from=alice&amp;before="),
        "{filtered}"
    );
    for wrong in [
        "from=%22%3E%3Cscript%3E",
        "to=A",
        "since=x",
        "before=1",
        "before=a-b",
        "before=1-2-3",
    ] {
        let answer = page.get(&format!("/admin/log?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(!answer.body.contains("<script"));
    }
}

#[tokio::test]
async fn requests_that_are_too_much_or_no_requests_are_refused() {
    let page = Page::enter(|_| {}).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (headers, body) in [
        (String::new(), ""),
        (form.to_owned(), ""),
        (format!("{form}Content-Length: 5000\r\n"), ""),
        (format!("{form}Content-Length: -1\r\n"), ""),
        (format!("{form}Content-Length: 1\r\n"), "ab"),
        (
            format!("{form}Content-Length: 1\r\nContent-Length: 2\r\n"),
            "ab",
        ),
        (format!("{form}Transfer-Encoding: chunked\r\n"), "0\r\n\r\n"),
        (
            "Content-Type: application/json\r\nContent-Length: 2\r\n".to_owned(),
            "{}",
        ),
    ] {
        let answer = page.ask("POST", "/admin/login", &headers, body).await;
        assert_eq!(answer.status, 400, "{headers}");
    }
    for method in ["PUT", "DELETE", "HEAD", "OPTIONS"] {
        assert_eq!(
            page.ask(method, "/admin", "", "").await.status,
            405,
            "{method}"
        );
    }
    let long = format!("X: {}\r\n", "x".repeat(20_000));
    let text = {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(page.operator).await.unwrap();
        let _ = stream
            .write_all(format!("GET /admin HTTP/1.1\r\n{long}\r\n").as_bytes())
            .await;
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.map(|_| answer)
    };
    assert!(text.is_err() || text.unwrap() == b"HTTP/1.1 431");
    let many: String = (0..200).map(|n| format!("H{n}: x\r\n")).collect();
    assert_eq!(page.ask("GET", "/admin", &many, "").await.status, 400);
    assert_eq!(page.get("/admin").await.status, 200, "goes on");
}

#[tokio::test]
async fn neither_password_nor_cookie_is_logged() {
    let folder = init();
    configure(folder.path(), "operator = \"127.0.0.1:0\"", "");
    set_password(folder.path(), PASSWORD);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::piped());
    let mut process = Process::start_logging(command, folder.path(), "trace");
    let mut stderr = std::io::BufReader::new(process.child.stderr.take().unwrap());
    let mut log = String::new();
    let operator = loop {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        log.push_str(&line);
        if value["message"] == "listening for the operator" {
            break value["address"].as_str().unwrap().parse().unwrap();
        }
    };
    let request = |password: &str| {
        let body = format!(
            "password={}",
            password
                .replace(' ', "+")
                .replace('&', "%26")
                .replace('=', "%3D")
        );
        format!(
            "POST /admin/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let wrong = raw(operator, &request("canary-wrong-password")).await;
    assert!(wrong.starts_with("HTTP/1.1 403"), "{wrong}");
    let right = raw(operator, &request(PASSWORD)).await;
    assert!(right.starts_with("HTTP/1.1 303"), "{right}");
    let (_, cookie) = right.split_once("hostchat_relay_admin=").unwrap();
    kill_process(Pid::from_child(&process.child), Signal::TERM).unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert!(process.child.wait().unwrap().success());
    assert!(log.contains("wrong password on the admin page"), "{log}");
    for secret in ["canary-wrong", "horse", &cookie[..64]] {
        assert!(!log.contains(secret), "{secret}");
    }
}
