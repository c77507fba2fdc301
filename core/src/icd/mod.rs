//! Host and token: the link, the sealed channel, the commands (SPEC sections 10 and 11).
//!
//! ```text
//!  host                                        token
//!   ToToken ──encode──▶ [COBS + CRC-16 on serial] ──▶ FromToken
//!      └ Sealed{counter, body} ──Channel──▶ Command        (after unlock)
//! ```
//!
//! One request is under way at a time. While the token works or waits for a touch it sends `Keepalive` at least every
//! [`KEEPALIVE_MS`]; the host gives a token up after [`SILENCE_MS`] without a byte.

pub mod channel;
pub mod command;
pub mod link;

pub use channel::{Channel, HostUnlock, TokenUnlock, UnlockKind};
pub use command::{
    Act, Answered, Command, ContactInfo, Generations, LOG_ENTRIES, LinkError, Log, LogEntry,
    MAX_LAST_RESORT, MAX_ONE_TIME, MAX_SESSIONS, Offered, Opened, OpenedKind, Reply, SessionInfo,
    Status, TokenError,
};
pub use link::{Activity, FromToken, Hello, Lifecycle, MAX_LINK, ToToken};

/// Version of the link between host and token: `Hello`, unlock, commands. Within one version commands and replies are only
/// appended.
pub const TOKEN_VERSION: u8 = 2;

/// USB vendor id of a token: pid.codes. Its product ids 1 to 16 are for tests and private use; a token that is sold needs
/// one of its own.
pub const USB_VENDOR: u16 = 0x1209;
/// USB product id of a token.
pub const USB_PRODUCT: u16 = 0x0001;
/// USB product string of a token: with shared ids only the name tells it from others.
pub const USB_NAME: &str = "hostchat token";

/// Longest time between two signs of life of a busy token, in milliseconds.
pub const KEEPALIVE_MS: u64 = 100;
/// After this long without a byte the host gives the token up, in milliseconds.
pub const SILENCE_MS: u64 = 2_000;
/// How long a token waits for a touch, in milliseconds.
pub const TOUCH_TIMEOUT_MS: u64 = 30_000;
/// Tries of the PIN in all.
pub const MAX_TRIES: u8 = 8;
/// Tries of the PIN within one power cycle.
pub const MAX_TRIES_PER_POWER_CYCLE: u8 = 3;
/// When so many tries or fewer are left, each needs a touch.
pub const TRIES_THAT_NEED_TOUCH: u8 = 3;
