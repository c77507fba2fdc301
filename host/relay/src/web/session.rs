//! Sessions of the admin page: in memory, few, and over after a while.
//!
//! The cookie holds 32 random bytes; kept is only their hash, so that looking one up tells nothing by its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hostchat_core::crypto::hash::sha256;
use hostchat_core::secret::ct_eq;
use tokio::sync::Semaphore;

use crate::bucket::Buckets;
use crate::clock::Clock;
use crate::hub::Network;
use crate::limits::{WEB_ATTEMPTS, WEB_IDLE_MS, WEB_LIFE_MS, WEB_SESSIONS, WEB_TURN_MS, WEB_TURNS};

/// The name of the cookie.
pub(crate) const COOKIE: &str = "hostchat_relay_admin";

/// Who is logged in, and who tries.
pub(crate) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Session>>,
    /// Attempts to log in that are answered at once.
    attempts: Buckets<Network>,
    /// The others take turns, one at a time, so that wrong guesses lock nobody out who knows the password.
    turn: Semaphore,
    /// Those who wait for their turn, and the one whose it is.
    waiting: Semaphore,
    /// One password is hashed at a time: each takes 19 MiB.
    pub(crate) hashing: Arc<Semaphore>,
}

/// How an attempt to log in was let through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It counts among the attempts of its network.
    AtOnce,
    /// It waited.
    InTurn,
}

struct Session {
    csrf: String,
    /// The password that opened it.
    password: [u8; 32],
    began_ms: u64,
    used_ms: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            attempts: Buckets::new(WEB_ATTEMPTS),
            turn: Semaphore::new(1),
            waiting: Semaphore::new(WEB_TURNS),
            hashing: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Sessions {
    /// The field of a form that says of which session it is.
    pub(crate) const FIELD: &str = "csrf";

    /// Lets an attempt to log in go on: the first few of a network at once, the others each in its turn. `Err` has the
    /// milliseconds after which another try makes sense, where too many wait.
    pub(crate) async fn admit(&self, network: Network, clock: &dyn Clock) -> Result<Admitted, u64> {
        if self.attempts.take(network, clock.uptime_ms()).is_ok() {
            return Ok(Admitted::AtOnce);
        }
        let busy = |_| WEB_TURN_MS.saturating_mul(WEB_TURNS as u64);
        let _waiting = self.waiting.try_acquire().map_err(busy)?;
        // It is never closed.
        let _turn = self.turn.acquire().await.map_err(|_| WEB_TURN_MS)?;
        let end = clock.uptime_ms().saturating_add(WEB_TURN_MS);
        clock.sleep_until(end).await;
        Ok(Admitted::InTurn)
    }

    /// Takes back an attempt: it was the password, not a guess.
    pub(crate) fn was_right(&self, network: Network, admitted: Admitted) {
        if admitted == Admitted::AtOnce {
            self.attempts.give_back(&network);
        }
    }

    /// Opens a session and returns the value of its cookie; beyond a few, the one unused for longest ends.
    pub(crate) fn begin(
        &self,
        password: [u8; 32],
        now_ms: u64,
    ) -> Result<String, getrandom::Error> {
        let (token, csrf) = (random()?, random()?);
        let mut open = crate::lock(&self.open);
        open.retain(|_, session| session.is_open(now_ms));
        if open.len() >= WEB_SESSIONS {
            let oldest = open.iter().min_by_key(|(_, session)| session.used_ms);
            let oldest = oldest.map(|(key, _)| *key);
            open.retain(|key, _| Some(*key) != oldest);
        }
        let session = Session {
            csrf,
            password,
            began_ms: now_ms,
            used_ms: now_ms,
        };
        open.insert(sha256(&[token.as_bytes()]), session);
        Ok(token)
    }

    /// The session of a cookie, by its token against forged requests; `None` if it is over.
    pub(crate) fn csrf(&self, cookie: &str, password: [u8; 32], now_ms: u64) -> Option<String> {
        let mut open = crate::lock(&self.open);
        open.retain(|_, session| session.is_open(now_ms));
        let session = open.get_mut(&sha256(&[cookie.as_bytes()]))?;
        if session.password != password {
            return None;
        }
        session.used_ms = now_ms;
        Some(session.csrf.clone())
    }

    /// Ends a session.
    pub(crate) fn end(&self, cookie: &str) {
        crate::lock(&self.open).remove(&sha256(&[cookie.as_bytes()]));
    }
}

impl Session {
    fn is_open(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.used_ms) < WEB_IDLE_MS
            && now_ms.saturating_sub(self.began_ms) < WEB_LIFE_MS
    }
}

/// Whether a form came from a page of this session.
pub(crate) fn same(csrf: &str, sent: &str) -> bool {
    ct_eq(csrf.as_bytes(), sent.as_bytes())
}

fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_by_silence_by_age_by_another_password_and_by_logging_out() {
        let sessions = Sessions::default();
        let cookie = sessions.begin([1; 32], 0).unwrap();
        let csrf = sessions.csrf(&cookie, [1; 32], 1).unwrap();
        assert!(same(&csrf, &csrf) && !same(&csrf, "") && csrf != cookie);
        assert_eq!(sessions.csrf(&cookie, [2; 32], 1), None);
        assert_eq!(sessions.csrf("", [1; 32], 1), None);
        let mut now = 1;
        while now + WEB_IDLE_MS - 1 < WEB_LIFE_MS {
            now += WEB_IDLE_MS - 1;
            assert_eq!(sessions.csrf(&cookie, [1; 32], now).as_ref(), Some(&csrf));
        }
        assert_eq!(sessions.csrf(&cookie, [1; 32], WEB_LIFE_MS), None);

        let cookie = sessions.begin([1; 32], 0).unwrap();
        assert_eq!(sessions.csrf(&cookie, [1; 32], WEB_IDLE_MS), None);
        let cookie = sessions.begin([1; 32], 0).unwrap();
        sessions.end(&cookie);
        assert_eq!(sessions.csrf(&cookie, [1; 32], 0), None);
    }

    #[test]
    fn only_a_few_are_open_and_the_least_used_goes_first() {
        let sessions = Sessions::default();
        let begin = |now| sessions.begin([0; 32], now).unwrap();
        let cookies: Vec<_> = (0..WEB_SESSIONS as u64).map(begin).collect();
        assert!(sessions.csrf(&cookies[0], [0; 32], 100).is_some());
        begin(101);
        assert!(sessions.csrf(&cookies[0], [0; 32], 102).is_some());
        assert!(sessions.csrf(&cookies[1], [0; 32], 102).is_none());
    }
}
