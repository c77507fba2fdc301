//! The judge of a history: the one of the model (`healing_world.py`), reading what both ends are told and what they keep.
//!
//! ```text
//!  before an act:  could these keys know that they are old? what is confirmed?
//!  after it:       what the relay was asked and sent ─▶ surprises, keys used twice, texts sealed again
//!  at the end:     texts sent ─▶ shown? waiting at the sender? told? ─▶ Verdict
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hostchat::agent::Client;
use hostchat::error::{Error, Exit, Result};
use hostchat::model::{Note, Notice, Sent};
use hostchat::vault::{Carried, Payload};
use hostchat_core::wire::content::ContentId;
use hostchat_core::wire::{Generation, MessageId, Name};

use super::history::{DAY_MS, PEOPLE};
use super::relay::parse;
use super::{Moved, Outcome, Seen, What, World};

/// What the judge finds in one history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Texts that were sent.
    pub texts: usize,
    /// Texts that were never shown, wait nowhere, and nobody was told.
    pub silent: Vec<String>,
    /// Texts that one home showed twice without saying so.
    pub twice: Vec<String>,
    /// Sessions begun.
    pub renewals: usize,
    /// Sessions begun on the last quiet day.
    pub renewing: usize,
    /// Sessions begun with somebody who was away for two weeks.
    pub away: usize,
    /// Frames sent.
    pub seals: usize,
    /// Message keys used twice where that could be known.
    pub reused: usize,
    /// Message keys used twice where nobody could know.
    pub reused_unseen: usize,
    /// Texts of the quiet time that were not confirmed in time.
    pub dead: Vec<String>,
    /// Texts sealed although their receipt was there.
    pub again: usize,
    /// Homes that answered a second surprise within a day without their user's word.
    pub word: usize,
    /// Surprises although the keys were in order and the relay did not lie.
    pub false_alarms: usize,
    /// Accounts that end without one-time prekeys at the relay.
    pub stock: usize,
    /// Texts that were never shown but are told as lost or not confirmed.
    pub told: usize,
    /// Texts that were shown and are not confirmed at the end.
    pub open: usize,
    /// Texts lost because a rollback could not be seen by anyone.
    pub beyond: usize,
}

impl Verdict {
    /// What must never be: as the model asserts.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let counts = [
            ("texts lost silently", self.silent.len()),
            ("texts shown twice", self.twice.len()),
            ("texts in dead conversations", self.dead.len()),
            ("message keys used twice", self.reused),
            ("delivered texts sealed again", self.again),
            ("surprises without the user's word", self.word),
            ("accounts without one-time prekeys", self.stock),
            ("sessions begun on the last quiet day", self.renewing),
            (
                "sessions begun with somebody away, beyond 9",
                self.away.saturating_sub(9),
            ),
        ];
        for (what, count) in counts {
            if count > 0 {
                broken.push(format!("{count} {what}"));
            }
        }
        broken
    }
}

/// The table of the model, one row.
pub fn row(verdicts: &[Verdict]) -> String {
    let runs = |of: fn(&Verdict) -> usize| verdicts.iter().filter(|v| of(v) > 0).count();
    let sum = |of: fn(&Verdict) -> usize| verdicts.iter().map(of).sum::<usize>();
    let most = |of: fn(&Verdict) -> usize| verdicts.iter().map(of).max().unwrap_or_default();
    let silent = format!(
        "{} ({} of {})",
        runs(|v| v.silent.len()),
        sum(|v| v.silent.len()),
        sum(|v| v.texts)
    );
    let reused = format!("{} ({})", runs(|v| v.reused), runs(|v| v.reused_unseen));
    let line = |cells: [&str; 16]| {
        let widths = [5, 20, 6, 9, 5, 5, 6, 9, 5, 6, 5, 6, 6, 6, 6, 7];
        let cells = cells.iter().zip(widths);
        cells
            .map(|(cell, width)| format!("{cell:>width$} "))
            .collect::<String>()
    };
    let head = line([
        "runs", "silent", "twice", "renewing", "most", "away", "seals", "reused", "dead", "again",
        "word", "false", "stock", "told", "open", "beyond",
    ]);
    let numbers = [
        verdicts.len(),
        runs(|v| v.twice.len()),
        runs(|v| v.renewing),
        most(|v| v.renewals),
        most(|v| v.away),
        most(|v| v.seals),
        runs(|v| v.dead.len()),
        runs(|v| v.again),
        runs(|v| v.word),
        runs(|v| v.false_alarms),
        runs(|v| v.stock),
        sum(|v| v.told),
        sum(|v| v.open),
        runs(|v| v.beyond),
    ]
    .map(|n| n.to_string());
    let [
        all,
        twice,
        renewing,
        most,
        away,
        seals,
        dead,
        again,
        word,
        alarms,
        stock,
        told,
        open,
        beyond,
    ] = numbers.each_ref().map(String::as_str);
    let row = line([
        all, &silent, twice, renewing, most, away, seals, &reused, dead, again, word, alarms,
        stock, told, open, beyond,
    ]);
    format!("{head}\n{row}")
}

/// What the judge knows of a copy of a home, and its client may not.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    pub(super) old_keys: bool,
    pub(super) old_vault: bool,
    /// It is no plain copy: something was restored, or there are two.
    pub(super) went_back: bool,
    /// These keys went back in time, and no generation could show it.
    pub(super) cannot_know: bool,
    /// Surprises that were answered without the user's word.
    pub(super) surprises: Vec<u64>,
}

pub(super) struct Text {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) at: u64,
    /// How many were sent before.
    pub(super) number: usize,
}

/// What was so before somebody did something.
pub(super) struct Before {
    copy: usize,
    moved: usize,
    reused: usize,
    sent: usize,
    seen: usize,
    findable: bool,
    dated: u64,
    confirmed: HashSet<ContentId>,
}

#[derive(Default)]
pub(super) struct Judge {
    pub(super) homes: BTreeMap<(&'static str, usize), Flags>,
    pub(super) texts: BTreeMap<String, Text>,
    /// A copy begins another life: its vault was replaced when so many things had been seen.
    pub(super) lives: Vec<(usize, &'static str, usize)>,
    pub(super) undetectable: Vec<(&'static str, u64, u64)>,
    /// Users who were told of a stop by an error.
    pub(super) stops: Vec<(&'static str, u64, u64)>,
    /// The user of this account gives word now.
    pub(super) word: bool,
    pub(super) first_frame: usize,
    pub(super) found: Verdict,
}

impl Judge {
    pub(super) fn before(&mut self, world: &mut World, who: &'static str) -> Before {
        let copy = world.copy(who).number;
        let flags = self.homes.entry((who, copy)).or_default();
        let (moved, reused, sent) = {
            let state = world.relay().lock();
            let ledger = &state.ledger;
            (ledger.moved.len(), ledger.reused.len(), state.sent.len())
        };
        let mut before = Before {
            copy,
            moved,
            reused,
            sent,
            seen: world.seen().len(),
            findable: false,
            dated: 0,
            confirmed: HashSet::new(),
        };
        if flags.old_keys || flags.old_vault {
            let (current, planned, dated, history_old) = world.look(who, async |client| {
                let token = client.token().generations().await?;
                let dated = client.vault().generations()?.map_or(0, |g| g.dated);
                let old = |n: &(i64, Notice)| matches!(n.1, Notice::HistoryOld { .. });
                let history_old = client.vault().notices()?.iter().any(old);
                Ok((token.current, token.next.is_some(), dated, history_old))
            });
            flags.old_vault &= !history_old;
            let state = world.relay().lock();
            let adopted = state.ledger.advances.get(&(parse(who), current)).copied();
            let lying = state.lies.contains_key(&parse(who));
            drop(state);
            let unseen =
                world.relay().advances(who) - adopted.unwrap_or_default() - i64::from(planned);
            before.findable = unseen > 0 && !lying;
            before.dated = dated;
        }
        before.confirmed = world.look(who, confirmed_ids);
        before
    }

    pub(super) fn after<T>(
        &mut self,
        world: &mut World,
        who: &'static str,
        before: &Before,
        outcome: &Outcome<T>,
    ) {
        let now = world.now_ms();
        if let Outcome::Failed(error) = outcome {
            let exit = error.exit();
            let mine = [
                Exit::Vault,
                Exit::Io,
                Exit::Internal,
                Exit::Token,
                Exit::Home,
            ];
            assert!(!mine.contains(&exit), "{who}: {error}");
            if let Error::Stopped { since } = inner(error) {
                self.stops.push((who, *since, now));
            }
        }
        let name = parse(who);
        let (moved, reused, sent, lied) = {
            let state = world.relay().lock();
            let ledger = &state.ledger;
            let moved = ledger.moved.iter().skip(before.moved);
            let moved: Vec<Moved> = moved.filter(|m| m.0 == name).map(|m| m.1).collect();
            let reused = ledger.reused.iter().skip(before.reused);
            let sent = state.sent.iter().skip(before.sent);
            let sent = sent.filter(|(_, mail)| mail.sender.name() == name);
            let sent: Vec<MessageId> = sent.map(|(_, mail)| frame_id(&mail.body)).collect();
            let lies = ledger.moved.iter().filter(|m| m.1.lie);
            let lied: HashSet<Generation> = lies.filter_map(|m| m.1.there).collect();
            let reused = reused.filter(|n| **n == name).count();
            (moved, reused, sent, lied)
        };
        let told_old = world.seen().iter().skip(before.seen).any(|seen| {
            seen.who == who && matches!(seen.what, What::Note(Note::HistoryOld { .. }))
        });
        let mut flags = self.homes.entry((who, before.copy)).or_default().clone();
        flags.old_vault &= !told_old;
        self.found.false_alarms += usize::from(told_old && !flags.went_back);
        let could_not_know = flags.cannot_know;
        let mut current = Generation::NONE;
        for m in moved {
            if m.from.number + 1 == m.to.number {
                current = m.from;
            }
            match m.there {
                None if flags.old_keys || flags.old_vault => {
                    flags.cannot_know = flags.old_keys && !before.findable;
                    if !before.findable {
                        self.undetectable.push((who, before.dated, m.at));
                    }
                    (flags.old_keys, flags.old_vault) = (false, false);
                }
                Some(there)
                    if there.number >= m.to.number.saturating_sub(1) && there != current =>
                {
                    let (noted, stopped) = world.look(who, async |client| {
                        let copy = client.vault().generations()?;
                        let at = copy.as_ref().and_then(|copy| copy.surprised_at);
                        let stopped = copy.is_some_and(|copy| copy.stopped);
                        Ok((stopped || at.is_some_and(|at| at >= m.at), stopped))
                    });
                    if !noted {
                        // Power failed first: it will be surprised once more.
                        continue;
                    }
                    let wrong = !self.word && !flags.old_keys && !lied.contains(&there);
                    self.found.false_alarms += usize::from(wrong);
                    flags.old_vault = false;
                    if !stopped {
                        (flags.old_keys, flags.cannot_know) = (false, false);
                        if !self.word {
                            flags.surprises.push(m.at);
                        }
                    }
                }
                _ => {}
            }
        }
        let unseen = could_not_know || flags.cannot_know;
        self.homes.insert((who, before.copy), flags);
        match unseen {
            true => self.found.reused_unseen += reused,
            false => self.found.reused += reused,
        }
        if sent.is_empty() {
            return;
        }
        let contents = world.look(who, async |client| {
            let frames = sent.iter().map(|id| client.vault().sealed_frame(id));
            frames.collect::<Result<Vec<_>>>()
        });
        self.found.again += contents
            .into_iter()
            .flatten()
            .filter(|frame| match &frame.carried {
                Carried::Note { content, .. } => before.confirmed.contains(content),
                _ => false,
            })
            .count();
    }

    /// Which of these texts their senders know to be delivered.
    pub(super) fn unconfirmed(&self, world: &mut World, of: impl Fn(&Text) -> bool) -> Vec<String> {
        let mut known = HashSet::new();
        for who in PEOPLE {
            known.extend(world.look(who, async |client| {
                let history = client.vault().history(None, usize::MAX)?.into_iter();
                let history = history.filter(|m| m.sent == Some(Sent::Confirmed));
                Ok(history.map(|m| m.text.to_string()).collect::<Vec<_>>())
            }));
        }
        let texts = self.texts.iter().filter(|(_, text)| of(text));
        let open = texts.filter(|(words, _)| !known.contains(*words));
        open.map(|(words, _)| words.clone()).collect()
    }

    /// Judges at the end.
    pub(super) fn verdict(mut self, world: &mut World) -> Verdict {
        let now = world.now_ms();
        let mut periods = self.stops.clone();
        let mut losses: Vec<(&'static str, Name, u64)> = Vec::new();
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        let mut notices: Vec<(&'static str, u64, Note)> = Vec::new();
        for seen in world.seen() {
            if let What::Note(note) = &seen.what {
                notices.push((known(&seen.who), seen.at, note.clone()));
            }
        }
        for who in PEOPLE {
            let present = world.copy(who).number;
            for copy in 0..world.copies(who) {
                world.use_copy(who, copy);
                let (texts, pending) = world.look(who, kept);
                waiting.extend(texts);
                notices.extend(pending.into_iter().map(|notice| (who, now, notice.into())));
            }
            world.use_copy(who, present);
        }
        for (who, at, notice) in notices {
            match notice {
                Note::KeysOld { since } | Note::HistoryOld { since } | Note::Stopped { since } => {
                    periods.push((who, since, at))
                }
                Note::LostFrom { peer, .. }
                | Note::LostTo { peer, .. }
                | Note::NeverConfirmed { peer, .. }
                | Note::GoneFrom { peer, .. }
                | Note::Missing { peer, .. } => losses.push((who, peer.name(), at)),
                // Told once a day, so it speaks for the day after it too.
                Note::UnknownTo { peer, .. } => losses.push((who, peer.name(), at + DAY_MS)),
                _ => {}
            }
        }
        let covered = |periods: &[(&str, u64, u64)], who: &str, at: u64| {
            periods
                .iter()
                .any(|(a, since, when)| *a == who && *since <= at && at <= *when)
        };
        let lost = |who: &str, peer: &str, at: u64| {
            losses
                .iter()
                .any(|(a, p, when)| *a == who && *p == parse(peer) && at <= *when)
        };
        let shown: HashSet<&str> = world.seen().iter().filter_map(|s| text_of(s)).collect();
        let mut found = std::mem::take(&mut self.found);
        found.texts = self.texts.len();
        for (words, text) in &self.texts {
            let waits = waiting.contains(words);
            let told = lost(text.to, text.from, text.at) || lost(text.from, text.to, text.at);
            if shown.contains(words.as_str()) {
                found.open += usize::from(waits);
            } else if waits || told || covered(&periods, text.from, text.at) {
                found.told += 1;
            } else if covered(&self.undetectable, text.from, text.at) {
                found.beyond += 1;
            } else {
                found.silent.push(words.clone());
            }
        }
        found.twice = self.shown_twice(world.seen());
        for flags in self.homes.values() {
            let pairs = flags.surprises.iter().zip(flags.surprises.iter().skip(1));
            found.word += usize::from(pairs.into_iter().any(|(a, b)| b - a < DAY_MS));
        }
        found.stock = PEOPLE
            .iter()
            .filter(|who| world.relay().prekeys(who) == 0)
            .count();
        let state = world.relay().lock();
        found.renewals = state.ledger.taken.len();
        let last_day = |taken: &&(u64, Name, Name)| now - taken.0 < DAY_MS;
        found.renewing = state.ledger.taken.iter().filter(last_day).count();
        found.seals = state.sent.len() - self.first_frame;
        found
    }

    /// Texts that a copy showed again in the same life of its vault, without saying that it may be a repeat.
    fn shown_twice(&self, seen: &[Seen]) -> Vec<String> {
        let mut lives: BTreeMap<(&str, usize, usize), HashSet<&str>> = BTreeMap::new();
        let mut twice = Vec::new();
        for (n, one) in seen.iter().enumerate() {
            let What::Text {
                text, maybe_repeat, ..
            } = &one.what
            else {
                continue;
            };
            let of = |life: &&(usize, &str, usize)| {
                life.0 <= n && life.1 == one.who && life.2 == one.copy
            };
            let life = self.lives.iter().filter(of).count();
            let shown = lives.entry((&one.who, one.copy, life)).or_default();
            if !shown.insert(text) && !maybe_repeat {
                twice.push(text.clone());
            }
        }
        twice
    }
}

fn text_of(seen: &Seen) -> Option<&str> {
    match &seen.what {
        What::Text { text, .. } => Some(text),
        _ => None,
    }
}

fn known(who: &str) -> &'static str {
    PEOPLE.into_iter().find(|name| *name == who).unwrap_or("?")
}

/// The reason inside of what stays in the outbox.
pub(super) fn inner(error: &Error) -> &Error {
    match error {
        Error::Queued(waiting) | Error::Kept(waiting) => &waiting.why,
        other => other,
    }
}

async fn confirmed_ids(client: &mut Client) -> Result<HashSet<ContentId>> {
    let history = client.vault().history(None, usize::MAX)?.into_iter();
    let confirmed = history.filter(|m| m.sent == Some(Sent::Confirmed));
    Ok(confirmed.map(|m| m.content).collect())
}

/// Texts that wait at their sender or are shown as not confirmed there, and notices that were not shown yet.
async fn kept(client: &mut Client) -> Result<(Vec<String>, Vec<Notice>)> {
    let mut texts = Vec::new();
    let vault = client.vault();
    for entry in vault.outbox()? {
        if let Payload::Note { text, .. } = entry.payload {
            texts.push(text.to_string());
        }
    }
    texts.extend(
        vault
            .unconfirmed()?
            .into_iter()
            .map(|u| u.message.text.to_string()),
    );
    let never = vault.history(None, usize::MAX)?.into_iter();
    let never = never.filter(|m| m.sent == Some(Sent::Never));
    texts.extend(never.map(|m| m.text.to_string()));
    let notices = vault
        .notices()?
        .into_iter()
        .map(|(_, notice)| notice)
        .collect();
    Ok((texts, notices))
}

/// The id of the frame in an envelope, under which its sender knows it.
pub(super) fn frame_id(body: &[u8]) -> MessageId {
    use hostchat_core::wire::{Bytes, Envelope, Frame, codec};
    let envelope = codec::decode::<Envelope<'_>>(body).ok();
    let frame = envelope.as_ref().and_then(Envelope::frame);
    let frame = frame.and_then(|frame| Frame::parse(frame).ok());
    frame.map_or(Bytes([0; 16]), |frame| frame.message_id)
}
