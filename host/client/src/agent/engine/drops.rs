//! What came and was not taken, counted, so that a flood of it is one line and not one line each.
//!
//! ```text
//!  count ─▶ (mailbox drained) tell: the first of a kind at once ─▶ (end of the command, once an hour) tell: the rest
//! ```

use std::collections::BTreeSet;

use hostchat_core::wire::Address;

use super::Client;
use super::event::{Observer, note};
use crate::error::Result;
use crate::model::{Names, Note, Useless};

/// Why something was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It cannot be used. The name is that of its sender, as the relay says.
    Useless(Useless),
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

struct Tally {
    kind: Kind,
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
    pub(super) fn count(&mut self, kind: Kind, name: Option<&Address>, n: u32) {
        if n == 0 {
            return;
        }
        let found = self.tallies.iter().position(|t| t.kind == kind);
        let at = found.unwrap_or_else(|| {
            self.tallies.push(Tally {
                kind,
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
        if tally.names.len() <= Names::MOST {
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
    /// What is told of `count` of them.
    fn note(&self, count: u64) -> Note {
        let names = Names {
            names: self.names.iter().take(Names::MOST).cloned().collect(),
            more: self.names.len() > Names::MOST,
        };
        match &self.kind {
            Kind::Useless(why) => Note::Dropped {
                why: why.clone(),
                names,
                count,
            },
            Kind::Forged => Note::Forged { names, count },
            Kind::Removed => Note::Removed { count },
            Kind::Expired => Note::Expired { count },
            Kind::Unknown | Kind::Asking => Note::Strangers {
                names,
                asking: self.kind == Kind::Asking,
                count,
            },
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
            note(observer, tally.note(news))?;
            tally.told = tally.count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_up_to_a_bound() {
        let mut drops = Drops::default();
        for n in 0..100 {
            let name = Address::parse(&format!("s{n}@h:1")).unwrap();
            drops.count(Kind::Useless(Useless::Undecodable), Some(&name), 1);
        }
        assert_eq!(drops.tallies.len(), 1);
        let tally = drops.tallies.first().unwrap();
        let Note::Dropped { names, count, .. } = tally.note(tally.count) else {
            panic!("another note");
        };
        assert_eq!((names.names.len(), names.more, count), (16, true, 100));
    }
}
