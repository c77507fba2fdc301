//! A JSON document whose fields keep their order, and the comparison with the file.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::FOLDER;

/// A value of a vector file.
pub(crate) enum Node {
    Text(String),
    Number(u64),
    List(Vec<Node>),
    Map(Doc),
}

/// The fields of an object, in order.
#[derive(Default)]
pub(crate) struct Doc(Vec<(&'static str, Node)>);

impl Doc {
    /// Starts a file with a sentence on what it shows.
    pub(crate) fn about(text: &str) -> Self {
        Self::default().text("about", text)
    }

    pub(crate) fn hex(self, name: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        self.with(name, Node::Text(hex::encode(bytes)))
    }

    pub(crate) fn text(self, name: &'static str, text: &str) -> Self {
        self.with(name, Node::Text(text.to_owned()))
    }

    pub(crate) fn number(self, name: &'static str, number: impl Into<u64>) -> Self {
        self.with(name, Node::Number(number.into()))
    }

    pub(crate) fn map(self, name: &'static str, map: Doc) -> Self {
        self.with(name, Node::Map(map))
    }

    pub(crate) fn list(self, name: &'static str, list: impl IntoIterator<Item = Doc>) -> Self {
        self.with(name, Node::List(list.into_iter().map(Node::Map).collect()))
    }

    fn with(mut self, name: &'static str, node: Node) -> Self {
        assert!(
            self.0.iter().all(|(other, _)| *other != name),
            "{name} twice"
        );
        self.0.push((name, node));
        self
    }

    /// Compares with `tests/vectors/own/NAME.json`, or writes it.
    pub(crate) fn check(self, name: &str) {
        let mut text = String::new();
        write(&Node::Map(self), 0, &mut text);
        text.push('\n');
        let path = format!("{FOLDER}/{name}.json");
        #[cfg(test)]
        if std::env::var_os("HOSTCHAT_REGENERATE").is_some_and(|value| value == "1") {
            let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, &text).unwrap();
        }
        let file = super::text(&path);
        let differs = file
            .lines()
            .zip(text.lines())
            .find(|(file, now)| file != now);
        assert!(file == text, "{name}.json differs: {differs:?}");
    }
}

fn write(node: &Node, depth: usize, out: &mut String) {
    let indent = |out: &mut String, depth: usize| (0..depth).for_each(|_| out.push_str("  "));
    match node {
        Node::Text(text) => {
            assert!(
                text.bytes()
                    .all(|byte| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\')
            );
            write!(out, "\"{text}\"").unwrap();
        }
        Node::Number(number) => write!(out, "{number}").unwrap(),
        Node::List(list) => {
            out.push_str("[\n");
            for (i, node) in list.iter().enumerate() {
                indent(out, depth + 1);
                write(node, depth + 1, out);
                out.push_str(if i + 1 < list.len() { ",\n" } else { "\n" });
            }
            indent(out, depth);
            out.push(']');
        }
        Node::Map(Doc(fields)) => {
            out.push_str("{\n");
            for (i, (name, node)) in fields.iter().enumerate() {
                indent(out, depth + 1);
                write!(out, "\"{name}\": ").unwrap();
                write(node, depth + 1, out);
                out.push_str(if i + 1 < fields.len() { ",\n" } else { "\n" });
            }
            indent(out, depth);
            out.push('}');
        }
    }
}

#[test]
fn written_documents_are_json() {
    let doc = Doc::about("x")
        .hex("a", [1, 0xff])
        .list("l", [Doc::default().number("n", 7u8)]);
    let mut text = String::new();
    write(&Node::Map(doc), 0, &mut text);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["a"], "01ff");
    assert_eq!(value["l"][0]["n"], 7);
}
