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
    let pictures = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length";
    assert_eq!(browser.value(pictures).await, 2);
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
