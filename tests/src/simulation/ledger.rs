//! What a judge must know of the relay's past. It is no part of its disk: no restore takes it back.

use std::collections::HashMap;

use hostchat_core::wire::{Generation, Name};

/// A compare-and-set of a generation, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What the client took for the present pair.
    pub from: Generation,
    /// What it asked for.
    pub to: Generation,
    /// The pair that was there, or that the relay claimed; `None` if it moved on.
    pub there: Option<Generation>,
    /// The answer was a lie.
    pub lie: bool,
}

/// Everything that ever happened at the relay and matters to the judge.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Prekeys were taken, with which a session begins: when, by whom, of whom.
    pub taken: Vec<(u64, Name, Name)>,
    /// Compare-and-sets, with whose.
    pub moved: Vec<(Name, Moved)>,
    /// Who sent another frame under a message key that had sealed one before.
    pub reused: Vec<Name>,
    /// How often a generation had moved on when this pair was set, by the relay's own count, which a restore takes back.
    pub advances: HashMap<(Name, Generation), i64>,
}
