//! How events and data are printed: for people, or as JSON with one object per line.
//!
//! Invariant: whatever a peer or a relay chose is escaped before it gets here or here; JSON escapes it once more.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::{stamp, words};
use crate::agent::Observer;
use crate::error::{Error, Result};
use crate::escape::{escape, escape_lines};
use crate::model::answer::HistoryEntry;
use crate::model::{Direction, Event, Note, Sent};
use crate::os;
use crate::token::Notice;

/// Prints for one command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// As JSON.
    pub(super) json: bool,
}

impl Output {
    /// Prints data: `value` as JSON, else `text`, which is escaped already.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn data(self, value: &Value, text: &str) -> Result<()> {
        let line = if self.json {
            json_line(value)
        } else {
            text.to_owned()
        };
        line_out(&line).map_err(|why| Error::io("cannot write the output", why))
    }

    /// Prints an event as data: as JSON, else `text`, which is escaped already.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn event_data(self, event: &Event, text: &str) -> Result<()> {
        let value = to_json(event).map_err(|why| Error::io("cannot write the output", why))?;
        self.data(&value, text)
    }

    /// Says that a list has nothing in it, and what to do next: to people only, beside the output.
    pub(super) fn empty(self, text: &str) {
        if !self.json {
            // Nothing can be done where even this fails.
            let _ = writeln!(io::stderr(), "note: {text}");
        }
    }

    /// Prints an error with its hint.
    pub(super) fn error(self, error: &Error) {
        // Whoever reads our output has enough: the exit code says so.
        if matches!(error, Error::Io { why, .. } if why.kind() == io::ErrorKind::BrokenPipe) {
            return;
        }
        let (message, hint) = (error.to_string(), error.hint());
        let text = if self.json {
            json_line(
                &json!({"event": "error", "code": error.exit() as u8, "message": message, "hint": hint}),
            )
        } else {
            format!("error: {message}\nhint: {hint}")
        };
        // Nothing can be done where even this fails.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Prints what a token waits for; called on the token's thread.
    pub(super) fn notice(self, notice: Notice) {
        if notice == Notice::TouchNeeded {
            // Whoever cannot be told sees the button's light.
            let _ = self.event_out(&Event::Note(Note::TouchNeeded));
        }
    }

    /// Prints a message of the history.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn history(self, message: &HistoryEntry) -> Result<()> {
        let name = &message.name;
        let incoming = message.direction == Direction::In;
        let stored = (message.stored_at > 0).then_some(message.stored_at);
        let time = if incoming {
            stamp::received(message.sent_at, stored)
        } else {
            stamp::sent(message.sent_at, stored)
        };
        let text: &str = if message.unknown {
            words::SENT_UNKNOWN
        } else {
            &message.text
        };
        let ordered_at = stored.unwrap_or(message.received_at);
        let value = json!({
            "event": "history",
            "id": message.id,
            "peer": message.peer.as_str(),
            "name": name,
            "direction": if incoming { "in" } else { "out" },
            "text": text,
            "unknown": message.unknown,
            "sent_at": message.sent_at,
            "received_at": message.received_at,
            "stored_at": message.stored_at,
            "time": os::rfc3339(ordered_at),
            "message_id": message.message_id,
            "verified": message.verified,
            "confirmed": message.sent.map(|sent| sent == Sent::Confirmed),
            "state": message.sent.and_then(words::sent),
        });
        if message.unknown {
            return self.data(&value, &words::unknown_line(&time, name));
        }
        let who = if incoming {
            format!("{name}:")
        } else {
            format!("to {name}:")
        };
        let state = message
            .sent
            .and_then(words::sent)
            .map_or_else(String::new, |word| format!(" ({word})"));
        self.data(
            &value,
            &format!("[{time}] {who} {}{state}", escape_lines(text)),
        )
    }
}

impl Output {
    /// Prints an event.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn event(self, event: &Event) -> Result<()> {
        self.event_out(event)
            .map_err(|why| Error::io("cannot write the output", why))
    }

    fn event_out(self, event: &Event) -> io::Result<()> {
        if self.json {
            return line_out(&json_line(&to_json(event)?));
        }
        match event {
            Event::Message(_) | Event::Sent { .. } => line_out(&words::event(event)),
            // The question says it.
            Event::CrossedCodes { asks: true, .. } => Ok(()),
            other => writeln!(io::stderr(), "{}", words::event(other)),
        }
    }
}

impl Observer for Output {
    fn event(&mut self, event: Event) -> io::Result<()> {
        self.event_out(&event)
    }
}

/// One line of one object; `\u` for everything that is not printable, so that a terminal cannot be driven by it.
fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if !text.chars().any(crate::escape::is_hostile) {
        return text;
    }
    // serde_json escapes only C0 controls; outside of strings nothing else can stand.
    text.chars()
        .fold(String::with_capacity(text.len() + 16), |mut out, c| {
            use std::fmt::Write as _;

            if crate::escape::is_hostile(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            } else {
                out.push(c);
            }
            out
        })
}

fn line_out(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// An event for programs, with what people read beside it.
fn to_json(event: &Event) -> io::Result<Value> {
    let mut value = serde_json::to_value(event)?;
    let Value::Object(fields) = &mut value else {
        return Ok(value);
    };
    match event {
        Event::Note(note) => {
            fields.insert("text".into(), escape(&words::note(note)).into());
        }
        Event::Queued { fault, .. } => {
            fields.insert("reason".into(), fault.message.clone().into());
        }
        Event::Message(message) => {
            fields.insert("time".into(), os::rfc3339(message.ordered_at()).into());
            if message.unknown {
                fields.insert("text".into(), words::SENT_UNKNOWN.into());
            }
        }
        _ => {}
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::Bytes;
    use zeroize::Zeroizing;

    use super::*;
    use crate::model::event::MessageEvent;

    #[test]
    fn no_text_reaches_the_terminal_raw_as_json_either() {
        let hostile: String = (0..0x3000)
            .filter_map(char::from_u32)
            .chain(['\u{feff}', '\u{e0041}'])
            .collect();
        let mut message = MessageEvent {
            id: 1,
            peer: hostchat_core::wire::Address::parse("alice@h:1").unwrap(),
            name: "alice".into(),
            text: Zeroizing::new(hostile.clone()),
            unknown: false,
            sent_at: 0,
            received_at: 0,
            stored_at: 0,
            message_id: Bytes([7; 16]),
            verified: true,
            missing: 0,
            maybe_repeat: false,
        };
        let line = json_line(&to_json(&Event::Message(message.clone())).unwrap());
        assert!(!line.chars().any(crate::escape::is_hostile));
        let back: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["text"], hostile.as_str());
        // What cannot be shown has a mark that no text can imitate.
        for unknown in [true, false] {
            message.text = Zeroizing::new(words::SENT_UNKNOWN.into());
            message.unknown = unknown;
            let value = to_json(&Event::Message(message.clone())).unwrap();
            assert_eq!(value["unknown"], unknown);
            assert_eq!(value["text"], words::SENT_UNKNOWN);
        }
    }
}
