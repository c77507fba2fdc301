//! What came and was not taken, counted, so that a flood of it is one line and not one line each.
//!
//! ```text
//!  count ─▶ (mailbox drained) tell: the first of a kind at once ─▶ (end of the command, once an hour) tell: the rest
//! ```

use std::collections::BTreeSet;

use hostchat_core::wire::Address;

use super::Client;
use super::event::{Event, Observer, tell};
use crate::error::Result;

/// Most names that are counted one by one.
const MOST_NAMES: usize = 16;

/// Why something was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It cannot be used. The name is that of its sender, as the relay says.
    Useless,
    /// It came in the name of somebody else. The name is that one.
    Forged,
    /// An older request that had to make room. The name is that of who sent the newest one.
    Removed,
    /// A first message that nobody accepted for 30 days; without a name.
    Expired,
    /// It cannot be opened, and is from nobody who is a contact. The name is that of its sender, as the relay says.
    Unknown,
    /// As that, and its sender has a request that waits.
    Asking,
}

/// Names that a sentence lists; of others it says how many.
const NAMES_SHOWN: usize = 3;

fn list(names: &[Address]) -> String {
    let names: Vec<&str> = names.iter().map(Address::as_str).collect();
    names.join(", ")
}

/// Names, as they stand in a sentence.
pub(crate) fn named(names: &[Address]) -> String {
    match names {
        [] => "nobody".into(),
        [one] => one.to_string(),
        [first @ .., last] if names.len() <= NAMES_SHOWN => format!("{} and {last}", list(first)),
        _ => {
            let (shown, others) = names.split_at(NAMES_SHOWN);
            let other = if others.len() == 1 { "other" } else { "others" };
            format!("{} and {} {other}", list(shown), others.len())
        }
    }
}

struct Tally {
    kind: Kind,
    why: String,
    names: BTreeSet<Address>,
    count: u64,
    told: u64,
}

/// Everything of this run.
#[derive(Default)]
pub(super) struct Drops {
    tallies: Vec<Tally>,
    /// The mailbox was emptied once: what comes now comes one by one.
    drained: bool,
}

impl Drops {
    pub(super) fn count(&mut self, kind: Kind, why: &str, name: Option<&Address>, n: u32) {
        if n == 0 {
            return;
        }
        let found = self
            .tallies
            .iter()
            .position(|t| t.kind == kind && t.why == why);
        let at = found.unwrap_or_else(|| {
            self.tallies.push(Tally {
                kind,
                why: why.to_owned(),
                names: BTreeSet::new(),
                count: 0,
                told: 0,
            });
            self.tallies.len() - 1
        });
        let Some(tally) = self.tallies.get_mut(at) else {
            return;
        };
        tally.count += u64::from(n);
        if tally.names.len() <= MOST_NAMES {
            tally.names.extend(name.cloned());
        }
    }

    /// Whether something came in the name of `name` that was not from there.
    fn has_forged(&self, name: &Address) -> bool {
        let mut tallies = self.tallies.iter();
        tallies.any(|t| t.kind == Kind::Forged && t.names.contains(name))
    }
}

impl Tally {
    fn words(&self, n: u64) -> String {
        let one = n == 1;
        let some = |what: &str| {
            if one {
                format!("1 {what}")
            } else {
                format!("{n} {what}s")
            }
        };
        let names: Vec<Address> = self.names.iter().cloned().collect();
        let who = if names.len() > MOST_NAMES {
            let shown = names.get(..NAMES_SHOWN).unwrap_or_default();
            format!(
                "{} and more than {} others",
                list(shown),
                MOST_NAMES - NAMES_SHOWN
            )
        } else {
            named(&names)
        };
        match self.kind {
            Kind::Useless => {
                let things = some("message");
                let why = &self.why;
                format!("dropped {things} that your relay attributes to {who}: {why}")
            }
            Kind::Forged => {
                let things = some("request");
                let they = if one { "it does" } else { "they do" };
                format!("dropped {things} in the name of {who}: {they} not come from there")
            }
            Kind::Removed => {
                let things = some("old request");
                format!("removed {things} because too many are waiting; accept or decline some")
            }
            Kind::Unknown | Kind::Asking => {
                let things = if one {
                    "1 message or receipt".to_owned()
                } else {
                    format!("{n} messages or receipts")
                };
                let them = self.names.first().filter(|_| self.names.len() == 1);
                let them = them.map_or("NAME", Address::as_str);
                let advice = if self.kind == Kind::Asking {
                    let they = if one {
                        "it belongs to a session"
                    } else {
                        "they belong to sessions"
                    };
                    format!(
                        "{they} that these keys do not have. `hostchat accept {them}` asks for what has not arrived"
                    )
                } else {
                    format!(
                        "you have no such contact here. If you know who that is, write to them (`hostchat send {them}`): what has not arrived is then sent again"
                    )
                };
                format!(
                    "{things} that your relay attributes to {who} could not be opened: {advice}"
                )
            }
            Kind::Expired => {
                let things = some("first message");
                format!("removed {things} that you did not accept within 30 days")
            }
        }
    }

    fn word(&self) -> &'static str {
        match self.kind {
            Kind::Useless => "dropped",
            Kind::Forged => "forged",
            Kind::Removed => "removed",
            Kind::Expired => "expired",
            Kind::Unknown | Kind::Asking => "strangers",
        }
    }
}

impl Client {
    /// Whether requests in the name of `name` were dropped in this run, since somebody else had made them.
    pub fn has_dropped_forged(&self, name: &Address) -> bool {
        self.drops.has_forged(name)
    }

    /// The mailbox is empty: tells what was counted while it was emptied.
    pub(super) fn mailbox_drained(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.drops.drained = true;
        self.expire_requests()?;
        self.tell_drops(false, observer)
    }

    /// Tells at once what is the first of its kind, unless a mailbox is being emptied.
    pub(super) fn tell_drops_if_drained(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.drops.drained {
            self.tell_drops(false, observer)
        } else {
            Ok(())
        }
    }

    /// Tells what was counted: what is the first of its kind, with `all` everything that was not told yet.
    pub(super) fn tell_drops(&mut self, all: bool, observer: &mut dyn Observer) -> Result<()> {
        for tally in &mut self.drops.tallies {
            let news = tally.count - tally.told;
            if news == 0 || !(all || tally.told == 0) {
                continue;
            }
            let event = Event::Counted {
                kind: tally.word(),
                text: tally.words(news),
                count: news,
            };
            tell(observer, &event)?;
            tally.told = tally.count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(kind: Kind, names: &[&str], count: u64) -> String {
        let names = names.iter().map(|name| Address::parse(name).unwrap());
        let tally = Tally {
            kind,
            why: "cannot be decoded".into(),
            names: names.collect(),
            count,
            told: 0,
        };
        tally.words(count)
    }

    #[test]
    fn a_count_is_a_sentence() {
        assert_eq!(
            words(Kind::Useless, &["m@h:1"], 1),
            "dropped 1 message that your relay attributes to m@h:1: cannot be decoded"
        );
        assert_eq!(
            words(Kind::Useless, &["m@h:1", "n@h:1"], 300),
            "dropped 300 messages that your relay attributes to m@h:1 and n@h:1: cannot be decoded"
        );
        assert_eq!(
            words(Kind::Forged, &["carol@h:1"], 1),
            "dropped 1 request in the name of carol@h:1: it does not come from there"
        );
        assert_eq!(
            words(Kind::Forged, &["carol@h:1"], 12),
            "dropped 12 requests in the name of carol@h:1: they do not come from there"
        );
        assert_eq!(
            words(Kind::Removed, &["m@h:1"], 2),
            "removed 2 old requests because too many are waiting; accept or decline some"
        );
        assert_eq!(
            words(Kind::Unknown, &["m@h:1"], 1),
            "1 message or receipt that your relay attributes to m@h:1 could not be opened: you have no such contact here. If you know who that is, write to them (`hostchat send m@h:1`): what has not arrived is then sent again"
        );
        assert_eq!(
            words(Kind::Asking, &["m@h:1"], 2),
            "2 messages or receipts that your relay attributes to m@h:1 could not be opened: they belong to sessions that these keys do not have. `hostchat accept m@h:1` asks for what has not arrived"
        );
        assert_eq!(
            words(Kind::Expired, &[], 1),
            "removed 1 first message that you did not accept within 30 days"
        );
    }

    #[test]
    fn a_sentence_names_a_few_and_counts_the_others() {
        let names =
            ["a@h:1", "b@h:1", "c@h:1", "d@h:1", "e@h:1"].map(|n| Address::parse(n).unwrap());
        let first = |n: usize| named(names.get(..n).unwrap());
        assert_eq!(first(1), "a@h:1");
        assert_eq!(first(2), "a@h:1 and b@h:1");
        assert_eq!(first(3), "a@h:1, b@h:1 and c@h:1");
        assert_eq!(first(4), "a@h:1, b@h:1, c@h:1 and 1 other");
        assert_eq!(first(5), "a@h:1, b@h:1, c@h:1 and 2 others");
    }

    #[test]
    fn names_are_counted_up_to_a_bound() {
        let mut drops = Drops::default();
        for n in 0..100 {
            let name = Address::parse(&format!("s{n}@h:1")).unwrap();
            drops.count(Kind::Useless, "cannot be decoded", Some(&name), 1);
        }
        assert_eq!(drops.tallies.len(), 1);
        let tally = drops.tallies.first().unwrap();
        assert_eq!(
            tally.words(tally.count),
            "dropped 100 messages that your relay attributes to s0@h:1, s10@h:1, s11@h:1 and more than 13 others: cannot be decoded"
        );
    }
}
