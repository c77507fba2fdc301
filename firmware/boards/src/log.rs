//! What a board may say to a debug probe: the events of this list and nothing else, so that no log can hold a key, a PIN
//! or anything of a command.
//!
//! They go out as `defmt` over RTT, in images with the feature `log` alone (`cargo xtask firmware --log`); in those that
//! people use there is no log at all.

/// Something worth telling whoever debugs a board.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "log", derive(defmt::Format))]
pub enum Event<'a> {
    /// The board has power.
    Started,
    /// The records are read; commands are answered from here on.
    Ready,
    /// The flash cannot be used.
    NoFlash,
    /// The source of random numbers failed a health test.
    NoRandom,
    /// A request was answered, or refused.
    Answered {
        /// Time that it took.
        ms: u64,
    },
    /// The host went away, and the token is locked.
    Locked,
    /// The program has found an error of its own; the board resets. The place only: a message could hold a value.
    Panicked {
        /// File of the source.
        file: &'a str,
        /// Line in it.
        line: u32,
    },
    /// The processor has found an error; the board resets.
    Fault {
        /// Where the program was.
        at: u32,
    },
}

/// Logs what `event` makes; does nothing, and does not call it, in images without a log.
#[inline(always)]
pub fn log<'a>(event: impl FnOnce() -> Event<'a>) {
    #[cfg(feature = "log")]
    defmt::info!("{}", event());
    #[cfg(not(feature = "log"))]
    let _ = event;
}

/// Waits until a probe that listens has everything. Whoever calls it has interrupts off, so that the watchdog ends the wait
/// for one that does not.
pub fn flush() {
    #[cfg(feature = "log")]
    defmt::flush();
}

#[cfg(feature = "log")]
defmt::timestamp!("{=u64:ms}", embassy_time::Instant::now().as_millis());

#[cfg(feature = "log")]
use defmt_rtt as _;
