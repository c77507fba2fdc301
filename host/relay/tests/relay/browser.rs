//! The admin page in a real browser, which refuses what a raw client would let pass.
//!
//! Needs Debian's `chromium-headless-shell`, which `cargo xtask test` installs; `HOSTCHAT_CHROMIUM` names another Chromium.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hostchat_core::wire::relay::Reason;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::client::{Client, Person};
use crate::page::{PASSWORD, Page};

/// So that a browser that hangs fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A page in Chromium, driven over its debugging protocol.
struct Browser {
    child: Child,
    ws: WebSocketStream<TcpStream>,
    session: String,
    next: u64,
    /// What happened since it was last looked at.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The program may be a script that starts another.
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Browser {
    async fn start() -> Self {
        let program = std::env::var_os("HOSTCHAT_CHROMIUM");
        let program = program.unwrap_or_else(|| "chromium-headless-shell".into());
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium-headless-shell: `cargo xtask test` installs it");
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines
            .map(Result::unwrap)
            .find_map(|line| {
                line.split_once("listening on ")
                    .map(|(_, url)| url.to_owned())
            })
            .expect("Chromium says where it listens");
        let authority = url.trim_start_matches("ws://").split('/').next().unwrap();
        let stream = TcpStream::connect(authority).await.unwrap();
        let config = WebSocketConfig::default();
        let (ws, _) = tokio_tungstenite::client_async_with_config(&url, stream, Some(config))
            .await
            .unwrap();
        let mut browser = Self {
            child,
            ws,
            session: String::new(),
            next: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = json!({ "url": "about:blank" });
        let target = browser.call("Target.createTarget", target).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Log", "Runtime", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut request = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let text = Message::Text(request.to_string().into());
        self.ws.send(text).await.unwrap();
        loop {
            let message = self.receive().await;
            if message["id"] == json!(id) {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    async fn receive(&mut self) -> Value {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.ws.next()).await;
            if let Message::Text(text) = next.expect("Chromium answers").unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Waits until the page that `call` leads to has been loaded with all its pictures.
    async fn load(&mut self, method: &str, params: Value) {
        self.events
            .retain(|event| event["method"] != json!("Page.loadEventFired"));
        self.call(method, params).await;
        let loaded = |event: &Value| event["method"] == json!("Page.loadEventFired");
        while !self.events.iter().any(loaded) {
            let event = self.receive().await;
            self.events.push(event);
        }
    }

    async fn go(&mut self, url: &str) {
        self.load("Page.navigate", json!({ "url": url })).await;
    }

    /// Runs a script of this test, not of the page, that leads to another page.
    async fn submit(&mut self, script: &str) {
        self.load("Runtime.evaluate", json!({ "expression": script }))
            .await;
    }

    async fn value(&mut self, script: &str) -> Value {
        let done = self
            .call("Runtime.evaluate", json!({ "expression": script }))
            .await;
        done["result"]["value"].clone()
    }

    async fn text(&mut self) -> String {
        let text = self.value("document.body.innerText").await;
        text.as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_operator_does_everything_in_a_browser_and_it_has_nothing_to_complain_of() {
    let page = Page::start(|config| config.audit.log_days = 7).await;
    let base = format!("http://{}", page.operator);
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&page.relay.place, &alice).await;
    let mut to = Client::register(&page.relay.place, &bob).await;
    for id in 0..5 {
        assert!(from.send(&bob, id, b"canary").await.is_stored());
    }
    let mut browser = Browser::start().await;

    browser.go(&format!("{base}/admin/users")).await;
    assert_eq!(browser.value("location.pathname").await, "/admin/login");
    let log_in = |password: &str| {
        format!(
            "document.querySelector('[name=password]').value = {};
             document.querySelector('button').click()",
            json!(password)
        )
    };
    browser.submit(&log_in("a wrong password")).await;
    assert!(browser.text().await.contains("That is not the password."));
    browser.events.clear();
    browser.submit(&log_in(PASSWORD)).await;
    assert_eq!(browser.value("location.pathname").await, "/admin");
    assert_eq!(
        browser.value("document.cookie").await,
        "",
        "not for scripts"
    );
    let charts = "[...document.querySelectorAll('svg')].filter(c => c.getBoundingClientRect().width > 100).length";
    assert_eq!(browser.value(charts).await, 2);
    let styled = "getComputedStyle(document.querySelector('header')).display";
    assert_eq!(browser.value(styled).await, "flex");

    for (path, says) in [
        ("/admin/users", "bob"),
        ("/admin/log?from=alice", "message"),
        ("/admin/limits", "600 at once, then 600 a minute"),
        ("/admin/invitations", "Make an invitation"),
    ] {
        browser.go(&format!("{base}{path}")).await;
        let text = browser.text().await;
        assert!(text.contains(says), "{path}: {text}");
        assert!(text.contains("Nothing here can be decrypted") && !text.contains("canary"));
    }
    browser
        .submit("document.querySelector('form.filter button').click()")
        .await;
    let words = "document.querySelector('.words').innerText.length";
    assert_eq!(browser.value(words).await, 20);
    browser
        .submit("document.querySelector('td button').click()")
        .await;
    assert_eq!(
        browser
            .value("document.querySelectorAll('td').length")
            .await,
        0
    );

    browser.go(&format!("{base}/admin/user?name=bob")).await;
    browser
        .submit(
            "document.querySelector('[name=again]').value = 'bob';
             document.querySelector('.danger button').click()",
        )
        .await;
    assert_eq!(browser.value("location.pathname").await, "/admin/users");
    assert!(!browser.text().await.contains("bob"));
    assert_eq!(to.next().await.reason(), Some(Reason::UnknownName));
    browser
        .submit("document.querySelector('header button').click()")
        .await;
    assert_eq!(browser.value("location.pathname").await, "/admin/login");
    browser.go(&format!("{base}/admin")).await;
    assert_eq!(browser.value("location.pathname").await, "/admin/login");

    for event in &browser.events {
        let method = event["method"].as_str().unwrap_or_default();
        let complaints = [
            "Log.entryAdded",
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
        ];
        assert!(!complaints.contains(&method), "{event}");
        assert_ne!(method, "Network.loadingFailed", "{event}");
        let url = event["params"]["request"]["url"].as_str();
        let ours = url.is_none_or(|url| url.starts_with(&base));
        assert!(ours, "{event}");
    }
}

/// Everything that the page shows as text, with its colour and what lies behind it: the contrast of WCAG 2.2, 1.4.3, of the
/// worst, and whether something is wider than the screen.
const LOOK: &str = r#"(() => {
    const rgb = (text) => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = rgb(getComputedStyle(element).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
            if (colour[3] !== 0) throw new Error("half transparent");
        }
        throw new Error("nothing behind it");
    };
    let [worst, where, seen] = [21, "", 0];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const [node, element] = [walker.currentNode, walker.currentNode.parentElement];
        if (!node.data.trim() || !element.getClientRects().length || element.closest("svg")) continue;
        const [one, other] = [luminance(rgb(getComputedStyle(element).color)), luminance(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        seen += 1;
        if (ratio < worst) [worst, where] = [ratio, node.data.trim()];
    }
    const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
    return { worst, where, seen, width: document.documentElement.scrollWidth, screen: innerWidth,
        wide: wide.map((e) => e.tagName + " " + e.textContent.slice(0, 30)).slice(0, 3) };
})()"#;

impl Browser {
    async fn screen(&mut self, scheme: &str, width: u32) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        )
        .await;
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    /// Keeps a picture of the whole page where `HOSTCHAT_SHOTS` names a folder for that: Base64 of a PNG.
    async fn shot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("HOSTCHAT_SHOTS") else {
            return;
        };
        let whole = json!({ "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", whole).await;
        let path = std::path::Path::new(&folder).join(format!("{name}.png.b64"));
        std::fs::write(path, shot["data"].as_str().unwrap()).unwrap();
    }
}

/// A relay that was used for a while.
async fn used(page: &Page) -> Vec<Client> {
    let place = &page.relay.place;
    let names = [
        "alice",
        "bob",
        "carol",
        "dave.long-name-of-thirty-2-char",
        "erin",
        "mallory",
    ];
    let people = names.map(Person::new);
    let mut clients = Vec::new();
    for person in &people {
        clients.push(Client::register(place, person).await);
    }
    let mut id = 0;
    for quarter in 0..90_usize {
        for _ in 0..(quarter * 7) % 23 {
            id += 1;
            let body = vec![0; 700 + (quarter * 13) % 900];
            let to = &people[1 + quarter % 3];
            assert!(clients[0].send(to, id, &body).await.is_stored());
        }
        if quarter % 5 == 0 {
            clients[1].drain(true).await;
            clients[1] = Client::login(place, &people[1]).await;
        }
        page.relay.clock.advance(15 * 60_000);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let folder = page.relay.folder.path();
    for arguments in [
        &["suspend", "mallory"][..],
        &[
            "invite",
            "--uses",
            "3",
            "--note",
            "for the chess club",
            "--days",
            "14",
        ],
        &["invite", "--note", "Zoë"],
        &["invite"],
    ] {
        let done = crate::admin::admin(folder, arguments).await;
        assert!(done.status.success(), "{done:?}");
    }
    clients
}

#[tokio::test]
async fn every_page_is_readable_in_light_and_dark_and_fits_a_phone() {
    let mut page = Page::start(|config| {
        config.audit.log_days = 7;
        config.limits.idle_seconds = u32::MAX;
        config.limits.sends.per_minute = 0;
    })
    .await;
    let _clients = used(&page).await;
    let base = format!("http://{}", page.operator);
    let mut browser = Browser::start().await;
    let mut looked = 0;
    for login in [true, false] {
        if !login {
            let answer = page.log_in(PASSWORD).await;
            page.cookie = answer.cookie().split(';').next().unwrap().to_owned();
            let (name, value) = page.cookie.split_once('=').unwrap();
            let cookie = json!({ "name": name, "value": value, "url": base });
            browser.call("Network.setCookie", cookie).await;
        }
        let pages: &[(&str, &str)] = match login {
            true => &[("login", "/admin/login")],
            false => &[
                ("overview", "/admin"),
                ("users", "/admin/users?sort=waiting&order=down"),
                ("user", "/admin/user?name=bob"),
                ("suspended", "/admin/user?name=mallory"),
                ("log", "/admin/log"),
                ("invitations", "/admin/invitations?sort=ends&order=up"),
                ("limits", "/admin/limits"),
                ("nobody", "/admin/user?name=nobody"),
            ],
        };
        for (scheme, width) in [
            ("light", 1280),
            ("dark", 1280),
            ("light", 390),
            ("dark", 390),
        ] {
            browser.screen(scheme, width).await;
            for (name, path) in pages {
                browser.go(&format!("{base}{path}")).await;
                browser.shot(&format!("{name}-{scheme}-{width}")).await;
                let options = json!({ "expression": LOOK, "returnByValue": true });
                let done = browser.call("Runtime.evaluate", options).await;
                let look = &done["result"]["value"];
                let at = format!("{name} {scheme} {width}: {done}");
                assert!(look["worst"].as_f64().expect(&at) >= 4.5, "{at}");
                assert!(look["seen"].as_u64().unwrap() >= 4, "{at}");
                assert_eq!(look["screen"], json!(width), "{at}");
                assert!(look["width"].as_u64().unwrap() <= u64::from(width), "{at}");
                assert_eq!(look["wide"], json!([]), "{at}");
                looked += 1;
            }
        }
    }
    assert_eq!(looked, 36);
}
