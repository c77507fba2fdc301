//! A raw client of the admin page.

use std::net::SocketAddr;
use std::path::Path;

use hostchat_relay::Config;

use crate::harness::{TestRelay, program};
use crate::operator::raw;

pub const PASSWORD: &str = "correct horse & battery=staple";

/// A relay with an admin page, and a browser that may be logged in.
pub struct Page {
    pub relay: TestRelay,
    pub operator: SocketAddr,
    pub cookie: String,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn set_password(folder: &Path, password: &str) {
    let file = folder.join("typed");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let (dir, file) = (folder.to_str().unwrap(), file.to_str().unwrap());
    let output = program(&["admin", "--dir", dir, "password", "--file", file]);
    assert!(output.status.success(), "{output:?}");
}

impl Page {
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let relay = TestRelay::start(|config| {
            config.operator = Some("127.0.0.1:0".parse().unwrap());
            change(config);
        })
        .await;
        set_password(relay.folder.path(), PASSWORD);
        Self {
            operator: relay.operator.unwrap(),
            relay,
            cookie: String::new(),
        }
    }

    /// As [`Page::start`], and logs in.
    pub async fn enter(change: impl FnOnce(&mut Config)) -> Self {
        let mut page = Self::start(change).await;
        let answer = page.log_in(PASSWORD).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        page.cookie = answer.cookie().split(';').next().unwrap().to_owned();
        page
    }

    pub async fn log_in(&self, password: &str) -> Answer {
        self.post("/admin/login", &[("password", password)]).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from(path, fields, "").await
    }

    pub async fn post_from(&self, path: &str, fields: &[(&str, &str)], headers: &str) -> Answer {
        let body = {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(fields).finish()
        };
        let length = body.len();
        let headers = format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n{headers}"
        );
        self.ask("POST", path, &headers, &body).await
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let (host, cookie) = (self.operator, &self.cookie);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nCookie: other=1; {cookie}\r\n{headers}\r\n{body}"
        );
        let text = raw(self.operator, &request).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The token of this session's forms.
    pub async fn csrf(&self) -> String {
        let body = self.get("/admin").await.body;
        let (_, rest) = body.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(n, value)| (n == name).then_some(value))
    }

    pub fn cookie(&self) -> &str {
        self.header("Set-Cookie").expect("a cookie")
    }
}
