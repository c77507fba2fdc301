//! What goes over the socket: lines of JSON, at most [`LONGEST`] bytes each.
//!
//! ```text
//!  face ─▶ {"hello":{"protocol":1,"program":"0.1.0","manners":{..}}}        {"hello":{"protocol":1,"program":"0.1.0"}} ─▶ face
//!  face ─▶ {"id":7,"call":{"send":{"to":"bob@h:1","text":"hi","how":{..}}}}
//!          {"call":7,"event":"sent","peer":"bob@h:1",..}   {"ask":3,"what":"pin",..}   {"id":7,"ok":null} ─▶ face
//!          {"gone":true}    the holder ends, and has begun nothing that it has not answered
//!          {"id":8,"entry":{..}} .. {"id":8,"end":2}    a list                       {"id":9,"fault":{..}} ─▶ face
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hub::{Manners, Out};
use crate::error::{Error, Fault, Result};
use crate::model::Event;
use crate::model::call::{Ask, Call};

/// The protocol of this program: within a number, fields and calls are only added.
pub(super) const PROTOCOL: u32 = 1;
/// No line is longer, in bytes with its end.
pub(super) const LONGEST: usize = 65_536;

/// The first line in each direction.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) hello: Greeting,
}

/// Who speaks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// The protocol.
    pub(super) protocol: u32,
    /// The version of the program.
    pub(super) program: String,
    /// What a face is good for.
    #[serde(default)]
    pub(super) manners: Manners,
}

impl Hello {
    pub(super) fn new(manners: Manners) -> Self {
        Self {
            hello: Greeting {
                protocol: PROTOCOL,
                program: env!("CARGO_PKG_VERSION").into(),
                manners,
            },
        }
    }
}

/// A call on the socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Called {
    /// Its number.
    pub(super) id: u64,
    /// What.
    pub(super) call: Call,
}

/// The number of a call that cannot be read.
#[derive(Debug, Deserialize)]
pub(super) struct Unread {
    pub(super) id: u64,
}

/// A line of the holder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Fault {
        id: u64,
        fault: Fault,
    },
    Entry {
        id: u64,
        entry: Value,
    },
    End {
        id: u64,
        /// So many entries were before it.
        end: usize,
    },
    Ask {
        ask: u64,
        #[serde(flatten)]
        what: Ask,
    },
    Withdrawn {
        withdrawn: u64,
    },
    Gone {
        /// True.
        gone: bool,
    },
    Event {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<u64>,
        #[serde(flatten)]
        event: Event,
    },
    // The last: `ok` may be null.
    Ok {
        id: u64,
        ok: Value,
    },
}

/// The lines for something that a face gets.
pub(super) fn lines_of(out: Out) -> Vec<Line> {
    match out {
        Out::Answer {
            id,
            result: Ok(Value::Array(entries)),
        } => {
            let end = entries.len();
            let entries = entries.into_iter().map(|entry| Line::Entry { id, entry });
            entries.chain([Line::End { id, end }]).collect()
        }
        Out::Answer { id, result: Ok(ok) } => vec![Line::Ok { id, ok }],
        Out::Answer {
            id,
            result: Err(fault),
        } => vec![Line::Fault { id, fault }],
        Out::Event { call, event } => vec![Line::Event { call, event }],
        Out::Ask { ask, what } => vec![Line::Ask { ask, what }],
        Out::Withdrawn { ask } => vec![Line::Withdrawn { withdrawn: ask }],
        Out::Gone => vec![Line::Gone { gone: true }],
    }
}

/// Puts lines together again.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lists: std::collections::HashMap<u64, Vec<Value>>,
}

impl Lines {
    /// Takes a line; gives what it completes. What cannot be understood is passed over: a newer holder says it.
    pub(super) fn take(&mut self, line: &[u8]) -> Option<Out> {
        Some(match serde_json::from_slice(line).ok()? {
            Line::Fault { id, fault } => {
                self.lists.remove(&id);
                let result = Err(fault);
                Out::Answer { id, result }
            }
            Line::Entry { id, entry } => {
                self.lists.entry(id).or_default().push(entry);
                return None;
            }
            Line::End { id, .. } => {
                let entries = self.lists.remove(&id).unwrap_or_default();
                let result = Ok(Value::Array(entries));
                Out::Answer { id, result }
            }
            Line::Ok { id, ok } => Out::Answer { id, result: Ok(ok) },
            Line::Ask { ask, what } => Out::Ask { ask, what },
            Line::Withdrawn { withdrawn } => Out::Withdrawn { ask: withdrawn },
            Line::Gone { .. } => Out::Gone,
            Line::Event { call, event } => Out::Event { call, event },
        })
    }
}

/// A line with its end.
///
/// # Errors
/// `Internal` for one that is too long.
pub(super) fn encode(line: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line).map_err(|_| Error::Internal("a line"))?;
    bytes.push(b'\n');
    if bytes.len() > LONGEST {
        return Err(Error::Internal("a line that is too long"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Note;
    use crate::model::call::{Resolve, Showing};

    fn there_and_back(out: Out) -> String {
        let mut lines = Lines::default();
        let said = format!("{out:?}");
        let mut back = None;
        for line in lines_of(out) {
            assert!(back.is_none());
            back = lines.take(&encode(&line).unwrap());
        }
        assert_eq!(format!("{:?}", back.unwrap()), said);
        said
    }

    #[test]
    fn what_a_face_gets_comes_over_the_socket_as_it_is() {
        let peer = hostchat_core::wire::Address::parse("bob@h:1").unwrap();
        for result in [
            Ok(Value::Null),
            Ok(serde_json::json!({"a": [1]})),
            Ok(serde_json::json!([])),
            Ok(serde_json::json!([{"id": 1}, {"end": 2}])),
            Err(Fault::from(&Error::NobodyAsks)),
        ] {
            there_and_back(Out::Answer { id: 7, result });
        }
        let note = Event::Note(Note::Changed { peer: peer.clone() });
        for call in [None, Some(3)] {
            let event = note.clone();
            there_and_back(Out::Event { call, event });
        }
        let what = Ask::Code { peer };
        there_and_back(Out::Ask { ask: 1, what });
        let what = Ask::Pin {
            hardware: true,
            again: false,
        };
        there_and_back(Out::Ask { ask: 1, what });
        there_and_back(Out::Withdrawn { ask: 1 });
        there_and_back(Out::Gone);
    }

    #[test]
    fn calls_have_stable_names() {
        let called =
            |call: Call| String::from_utf8(encode(&Called { id: 7, call }).unwrap()).unwrap();
        assert_eq!(
            called(Resolve { peer: "bob".into() }.into()),
            "{\"id\":7,\"call\":{\"resolve\":{\"peer\":\"bob\"}}}\n"
        );
        assert_eq!(
            called(Showing { ids: vec![1, 2] }.into()),
            "{\"id\":7,\"call\":{\"showing\":{\"ids\":[1,2]}}}\n"
        );
    }
}
