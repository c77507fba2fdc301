//! When the token answers codes again: it gives three answers in ten minutes that nobody confirms, and says so only when
//! it is asked for a fourth. What is known of it is kept, so that no code is asked for that cannot be used.
//!
//! The token decides. What is kept here is a hint in the same time as the software token's: since the computer was started.

use hostchat_core::wire::SessionStartId;
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Column, Tx, Vault, encode};
use crate::error::Result;
use crate::os::Uptime;

const ANSWERS: Column = Column {
    table: "meta",
    column: "answers",
};

/// The time in which three unconfirmed answers are possible.
const TEN_MINUTES_MS: u64 = 10 * 60 * 1000;
/// As many as count.
const COUNTED: usize = 3;

/// As stored; append-only.
#[derive(Default, Serialize, Deserialize)]
struct Row {
    /// Which start of the computer the times belong to.
    boot: u32,
    /// Answers that nobody has confirmed, the oldest first.
    made: heapless::Vec<(SessionStartId, u64), COUNTED>,
    /// Until then there is no other; 0 if that is not so.
    until: u64,
}

impl Vault {
    /// Notes an answer, and whether the token gives another one now.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn note_answer(&mut self, sid: &SessionStartId, left: u8, now: Uptime) -> Result<()> {
        self.write(|tx| {
            let mut row = load(tx, now)?;
            row.made.retain(|(_, at)| now.ms < at + TEN_MINUTES_MS);
            if row.made.is_full() {
                row.made.remove(0);
            }
            let _ = row.made.push((*sid, now.ms));
            row.until = match row.made.first() {
                Some((_, oldest)) if left == 0 && row.made.is_full() => oldest + TEN_MINUTES_MS,
                _ => 0,
            };
            store(tx, &row)
        })
    }

    /// Notes that an answer seems to be confirmed: it counts no more then, and the token can be asked. Nothing is written for
    /// what is no answer of ours.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn answer_confirmed(&mut self, sid: &SessionStartId, now: Uptime) -> Result<()> {
        self.write(|tx| {
            let mut row = load(tx, now)?;
            if !row.made.iter().any(|(made, _)| made == sid) {
                return Ok(());
            }
            row.made.retain(|(made, _)| made != sid);
            row.until = 0;
            store(tx, &row)
        })
    }

    /// Notes what the token said: no answer for so many seconds.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn note_wait(&mut self, seconds: u16, now: Uptime) -> Result<()> {
        self.write(|tx| {
            let mut row = load(tx, now)?;
            row.until = now.ms + u64::from(seconds) * 1000;
            store(tx, &row)
        })
    }

    /// For how many seconds the token gives no answer, as far as is known.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn answer_wait(&mut self, now: Uptime) -> Result<Option<u16>> {
        self.read(|tx| {
            let left = load(tx, now)?.until.saturating_sub(now.ms);
            let seconds = u16::try_from(left.div_ceil(1000)).unwrap_or(u16::MAX);
            // More than ten minutes are a clock that was set, not a wait.
            Ok((1..=TEN_MINUTES_MS).contains(&left).then_some(seconds))
        })
    }
}

fn load(tx: &Tx<'_>, now: Uptime) -> Result<Row> {
    let empty = Row {
        boot: now.boot,
        ..Row::default()
    };
    let select = "SELECT value FROM meta WHERE key = 'answers'";
    let sealed: Option<Vec<u8>> = tx
        .transaction
        .query_row(select, [], |row| row.get(0))
        .optional()?;
    let Some(sealed) = sealed else {
        return Ok(empty);
    };
    let plain = tx.open(0, ANSWERS, &sealed)?;
    let row: Row = tx.open_body(&plain)?;
    Ok(if row.boot == now.boot { row } else { empty })
}

fn store(tx: &Tx<'_>, row: &Row) -> Result<()> {
    let sealed = tx.sealer.seal(ANSWERS, 0, &encode(row)?);
    tx.transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('answers', ?1)")?
        .execute(params![sealed])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::Bytes;

    use super::*;
    use crate::token::StorageKey;

    fn at(seconds: u64) -> Uptime {
        Uptime {
            boot: 1,
            ms: seconds * 1000,
        }
    }

    fn vault(dir: &tempfile::TempDir) -> Vault {
        Vault::open(
            &dir.path().join("vault.db"),
            &StorageKey::from_bytes([1; 32]),
            crate::os::Os::default(),
        )
        .unwrap()
    }

    #[test]
    fn after_three_answers_the_wait_is_known_and_outlives_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = vault(&dir);
        for n in 0..3u8 {
            assert_eq!(known.answer_wait(at(100)).unwrap(), None);
            let when = at(100 + u64::from(n) * 10);
            known.note_answer(&Bytes([n; 16]), 2 - n, when).unwrap();
        }
        drop(known);
        let mut known = vault(&dir);
        assert_eq!(known.answer_wait(at(120)).unwrap(), Some(580));
        assert_eq!(known.answer_wait(at(699)).unwrap(), Some(1));
        assert_eq!(known.answer_wait(at(700)).unwrap(), None);
        let restarted = Uptime { boot: 2, ms: 5_000 };
        assert_eq!(
            known.answer_wait(restarted).unwrap(),
            None,
            "the token says"
        );
    }

    #[test]
    fn a_confirmed_answer_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = vault(&dir);
        for n in 0..3u8 {
            known.note_answer(&Bytes([n; 16]), 2 - n, at(100)).unwrap();
        }
        known.answer_confirmed(&Bytes([9; 16]), at(101)).unwrap();
        assert_eq!(known.answer_wait(at(101)).unwrap(), Some(599));
        known.answer_confirmed(&Bytes([2; 16]), at(101)).unwrap();
        assert_eq!(known.answer_wait(at(102)).unwrap(), None);
        known.note_answer(&Bytes([3; 16]), 0, at(103)).unwrap();
        assert_eq!(known.answer_wait(at(103)).unwrap(), Some(597));
    }

    #[test]
    fn what_the_token_says_is_kept_and_a_clock_that_was_set_back_is_no_wait() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = vault(&dir);
        known.note_wait(581, at(10_000)).unwrap();
        assert_eq!(known.answer_wait(at(10_001)).unwrap(), Some(580));
        assert_eq!(known.answer_wait(at(100)).unwrap(), None);
        assert_eq!(known.answer_wait(at(10_581)).unwrap(), None);
    }
}
