//! The records of a token, by number.

use hostchat_core::icd::{MAX_LAST_RESORT, MAX_ONE_TIME};

/// Numbers that exist.
pub(crate) const MAX_RECORDS: usize = 176;

/// Sessions kept at most: 64 contacts with two each.
pub(crate) const MAX_SESSIONS: usize = 128;
/// Session records that can stand beside each other: four more than are kept, so that a new one can stand beside those that
/// it replaces.
pub(crate) const SESSION_RECORDS: usize = MAX_SESSIONS + 4;

const FIRST_ONE_TIME: u8 = 8;
const FIRST_LAST_RESORT: u8 = 24;
const FIRST_SESSION: u8 = 40;

/// The number of a record; it is the owner of the record's slot as well. One byte: each session's card in RAM has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordId(u8);

impl RecordId {
    /// Token id, salt, CPace password, box with the master key. Its slot key is E_pin.
    pub(crate) const PIN: Self = Self(0);
    /// Tries of the PIN left; neither sealed nor secret.
    pub(crate) const TRIES: Self = Self(1);
    /// Identity and storage key.
    pub(crate) const KEYS: Self = Self(2);
    /// Attempts and unconfirmed answers of pairings.
    pub(crate) const PAIRING: Self = Self(3);
    /// Hashes of used first messages whose session is gone.
    pub(crate) const REPLAY: Self = Self(4);
    /// Counters of prekeys.
    pub(crate) const PREKEYS: Self = Self(5);
    /// Generation of these keys, floor of the sessions, and which sessions there ought to be.
    pub(crate) const GENERATION: Self = Self(6);

    /// The record of a one-time prekey.
    pub(crate) fn one_time(index: usize) -> Option<Self> {
        Self::nth(FIRST_ONE_TIME, MAX_ONE_TIME as u8, index)
    }

    /// The record of a last-resort prekey.
    pub(crate) fn last_resort(index: usize) -> Option<Self> {
        Self::nth(FIRST_LAST_RESORT, MAX_LAST_RESORT as u8, index)
    }

    /// All records that a session may have.
    pub(crate) fn sessions() -> impl Iterator<Item = Self> + Clone {
        (FIRST_SESSION..FIRST_SESSION + SESSION_RECORDS as u8).map(Self)
    }

    /// Which of [`RecordId::sessions`] this is.
    pub(crate) fn session_index(self) -> Option<usize> {
        let index = usize::from(self.0.checked_sub(FIRST_SESSION)?);
        (index < SESSION_RECORDS).then_some(index)
    }

    /// All records that a one-time prekey may have.
    pub(crate) fn one_times() -> impl Iterator<Item = Self> + Clone {
        (FIRST_ONE_TIME..FIRST_ONE_TIME + MAX_ONE_TIME as u8).map(Self)
    }

    /// All records that a last-resort prekey may have.
    pub(crate) fn last_resorts() -> impl Iterator<Item = Self> + Clone {
        (FIRST_LAST_RESORT..FIRST_LAST_RESORT + MAX_LAST_RESORT as u8).map(Self)
    }

    /// All records.
    pub(crate) fn all() -> impl Iterator<Item = Self> + Clone {
        (0..MAX_RECORDS as u8).map(Self)
    }

    /// The record of this number.
    pub(crate) fn from_index(index: u16) -> Option<Self> {
        let index = u8::try_from(index).ok()?;
        (usize::from(index) < MAX_RECORDS).then_some(Self(index))
    }

    /// Number, below [`MAX_RECORDS`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Number as it stands in a slot.
    pub(crate) fn owner(self) -> u16 {
        u16::from(self.0)
    }

    fn nth(first: u8, count: u8, index: usize) -> Option<Self> {
        u8::try_from(index)
            .ok()
            .filter(|index| *index < count)
            .map(|index| Self(first + index))
    }
}

const _: () = assert!(MAX_RECORDS <= u8::MAX as usize);
const _: () = assert!(FIRST_SESSION as usize + SESSION_RECORDS <= MAX_RECORDS);
const _: () = assert!(FIRST_ONE_TIME as usize + MAX_ONE_TIME <= FIRST_LAST_RESORT as usize);
const _: () = assert!(FIRST_LAST_RESORT as usize + MAX_LAST_RESORT <= FIRST_SESSION as usize);
