//! What may go wrong, in the words of the model (`healing_world.py`).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::relay::parse;
use super::world::Power;
use super::{Books, Image, Lie, Part, World};

impl World {
    /// `cp -a` of somebody's home, whether it is in use or not.
    pub fn image(&mut self, who: &str) -> Image {
        self.copy(who).image()
    }

    /// Restores a copy, or a part of it, in place of what somebody has.
    pub fn restore(&mut self, who: &str, image: &Image, part: Part) {
        self.copy(who).put(image, part);
    }

    /// Somebody goes on with another copy of their home: the next one they have, or one that is made of `image` if there is
    /// only one.
    pub fn twin(&mut self, who: &str, image: &Image) {
        self.leave(who);
        match self.copies(who) {
            1 => self.add_copy(who, image),
            _ => self.next_copy(who),
        }
    }

    /// A backup of the relay.
    pub fn relay_copy(&self) -> Books {
        self.relay().books()
    }

    /// Restores the relay from a backup; everybody's line ends.
    pub fn relay_restore(&self, books: &Books) {
        self.relay().restore(books);
    }

    /// The relay lies to somebody's next compare-and-set of their generation.
    pub fn lie(&self, who: &str, lie: Lie) {
        self.relay().lock().lies.insert(parse(who), lie);
    }

    /// The relay moves every generation on from now, whatever is there: nobody learns that keys are old.
    pub fn believe_all(&self) {
        self.relay().lock().gullible = true;
    }

    /// The relay answers truly again.
    pub fn stop_lies(&self) {
        self.relay().lock().lies.clear();
    }

    /// Somebody takes all one-time prekeys of an account.
    pub fn drain(&self, who: &str) {
        self.relay().drain(who);
    }

    /// The relay drops the `position`-th mail of a mailbox; `false` if there is none.
    pub fn drop_mail(&self, who: &str, position: usize) -> bool {
        self.relay().with_mail(who, position, |_| false)
    }

    /// The relay names another sender for the `position`-th mail of a mailbox; `false` if there is none.
    pub fn misname(&self, who: &str, position: usize, sender: &str) -> bool {
        let sender = Self::address(sender);
        self.relay().with_mail(who, position, |mail| {
            mail.sender = sender;
            true
        })
    }

    /// Nothing is delivered to these people until this is said of nobody.
    pub fn hold_back(&self, who: &[&str]) {
        let mut state = self.relay().lock();
        state.allowance = who.iter().map(|who| (parse(who), 0)).collect();
    }

    /// Out of 100 deliveries, so many are any of the mailbox and not the oldest.
    pub fn reorder(&self, percent: u64) {
        self.relay().lock().reordered = percent;
    }

    /// The clocks of the computers whose programs start from now on are set so many milliseconds ahead, or back.
    pub fn clocks_ahead(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
    }

    /// At each crash point somebody's power fails, with this many in a million; 0 for never.
    pub fn crash(&mut self, in_a_million: u64) {
        self.power = match in_a_million {
            0 => Power::Stays,
            n => Power::Fails(n),
        };
    }

    /// The power fails once, at this crash point, after it was passed `after` times.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn crash_at(&mut self, point: &str, after: usize) {
        assert!(hostchat::crash::POINTS.contains(&point), "{point}");
        self.power = Power::FailsAt(point.into(), Arc::new(AtomicUsize::new(after)));
    }
}
