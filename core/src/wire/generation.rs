//! Generations: how keys that went back in time are found before anything is sealed with them (SPEC §9.8).
//!
//! ```text
//!  vault: next ─▶ token: next ─▶ relay: compare and set ─▶ token: current ─▶ vault: current
//! ```
//!
//! Token, vault and home relay each hold the pair. A pair that is neither ours nor our next means that these keys are older
//! than keys that were used, or that a copy of them is in use.

use serde::{Deserialize, Serialize};

use crate::wire::Bytes;

/// A generation of an account's keys. The random half tells two copies apart that count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Counts up, from 0 for an account that never had one.
    pub number: u64,
    /// 16 random bytes; zeros for number 0.
    pub random: Bytes<16>,
}

impl Generation {
    /// The pair of an account or token that never had one.
    pub const NONE: Self = Self {
        number: 0,
        random: Bytes([0; 16]),
    };
    /// A number that lies further ahead than this is a lie of the relay.
    pub const MAX_JUMP: u64 = 1 << 32;
}
