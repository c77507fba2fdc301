//! What a token needs from its surroundings: random numbers, a flash, a clock, somebody's finger.

use rand_core::CryptoRng;

use crate::flash::Flash;

/// A moment since the device was powered up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Another number after each power cycle (on a host: after each boot of the machine).
    pub epoch: u32,
    /// Milliseconds since the power came on; never runs backwards within an epoch.
    pub ms: u64,
}

/// Why a press is asked for, to be shown to whoever is to press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchReason {
    /// The first PIN is set.
    Init,
    /// One of the last three tries of the PIN.
    LastTries,
    /// A pairing code is to be shown.
    ShowCode,
    /// A pairing code was typed and is to be answered.
    AnswerCode,
    /// Another identity is to stand behind a known address.
    AcceptChangedKey,
    /// The PIN is to change.
    ChangePin,
    /// All keys are to be erased.
    Wipe,
    /// The token is configured to ask for every command.
    EveryCommand,
}

/// How a wait for a press ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Somebody pressed, after the wait began.
    Pressed,
    /// The host gave the request up.
    Cancelled,
    /// Nobody pressed in time.
    TimedOut,
}

/// When a press is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PresencePolicy {
    /// For what SPEC section 11 lists.
    #[default]
    Listed,
    /// For every command, but for listings and what a host does while nobody is near (SPEC section 11).
    Everything,
}

/// The surroundings of a token.
pub trait Env {
    /// Where random numbers come from.
    type Rng: CryptoRng;
    /// Where everything lasting lives.
    type Flash: Flash;

    /// The random generator, or `None` while its health tests fail: no keys are made then.
    fn rng(&mut self) -> Option<&mut Self::Rng>;

    /// The time since power-up.
    fn now(&self) -> Uptime;

    /// Waits for a press that begins after this call; a button that is down already does not count. One press serves one
    /// call. While it waits the transport sends keepalives.
    fn touch(&mut self, reason: TouchReason) -> impl Future<Output = Touch>;

    /// When a press is needed.
    fn presence(&self) -> PresencePolicy {
        PresencePolicy::Listed
    }

    /// Whether PIN tries are counted and the keys are erased after the last. `false` on the software token: a copy of its
    /// file would not be erased anyway.
    fn wipes(&self) -> bool {
        true
    }

    /// What it runs on, for people, at most 16 bytes: `software`, `sim`, `pico`.
    fn board(&self) -> &str;

    /// After so many milliseconds without a request the token locks itself.
    fn idle_lock_ms(&self) -> Option<u64> {
        None
    }
}
