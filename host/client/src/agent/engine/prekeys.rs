//! Prekeys: what lies at the home relay so that others can write first.
//!
//! Invariant: the relay gives out only keys whose secrets the token holds. A pair of id and date that the token does not
//! have is stale, and the whole stock is replaced: one of the two went back in time (SPEC section 9.8).

use std::collections::HashSet;

use hostchat_core::icd::{MAX_ONE_TIME, TokenError};
use hostchat_core::wire::{Envelope, PrekeyKind, PrekeyRef, codec};

use super::Client;
use crate::crash;
use crate::error::{Error, Result};
use crate::model::Asked;
use crate::token::Prekeys;

/// One-time prekeys wanted at the relay: half of what a token holds, so that some may be on their way.
const ONE_TIME: usize = 8;
/// The last-resort key is replaced after a week, in seconds.
const LAST_RESORT_S: u64 = 7 * 24 * 3600;
/// A one-time prekey that was given out and not used by then is deleted, in milliseconds: 35 days.
const GIVEN_MS: u64 = 35 * 24 * 3600 * 1000;

impl Client {
    /// Brings the prekeys at the home relay up to date; ends early when the user wants to stop.
    ///
    /// # Errors
    /// Those of relay, token and vault.
    pub async fn refill_prekeys(&mut self) -> Result<()> {
        self.prepare_keys().await?;
        self.put_prekeys().await?;
        let home = self.home_relay();
        let mut there = self.at(&home).await?.prekeys().await?;
        let mut own = self.token.prekeys().await?;
        if there.one_time.iter().any(|key| !own.one_time.contains(key)) {
            self.at(&home).await?.drop_prekeys().await?;
            self.vault.clear_prekeys()?;
            self.token.drop_prekeys().await?;
            crash::point("prekeys-dropped");
            there.one_time.clear();
            own.one_time.clear();
        }
        let now = self.os.now_s();
        let due = |key: PrekeyRef| {
            let age = now.abs_diff(key.issued);
            // Also if the clock was wrong when the key was made.
            age >= LAST_RESORT_S
        };
        if there.last_resort.is_none_or(due) || there.last_resort != own.last_resort {
            self.new_prekey(PrekeyKind::LastResort).await?;
        }
        self.forget_given(&there, &own).await?;
        for _ in there.one_time.len()..ONE_TIME {
            if self.stop.is_wished() {
                return Ok(());
            }
            match self.new_prekey(PrekeyKind::OneTime).await {
                // All others are named by first messages that wait for the user.
                Err(Error::Token(TokenError::PrekeysFull)) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes room on the token: what was given out long ago goes, and what was given out first if there is no room
    /// otherwise, but never what a waiting request names.
    async fn forget_given(&mut self, there: &Prekeys, own: &Prekeys) -> Result<()> {
        let Some(mut copy) = self.vault.generations()? else {
            return Ok(());
        };
        let now = self.vault.settled_now();
        let before = copy.given.clone();
        copy.given
            .retain(|(key, _)| own.one_time.contains(key) && !there.one_time.contains(key));
        for key in &own.one_time {
            let given = !there.one_time.contains(key);
            if given && copy.given.iter().all(|(known, _)| known != key) {
                // As many as a token holds.
                let _ = copy.given.push((*key, now));
            }
        }
        let named = self.named_prekeys()?;
        let wanted = ONE_TIME.saturating_sub(there.one_time.len());
        let mut free = MAX_ONE_TIME.saturating_sub(own.one_time.len());
        let mut gone = Vec::new();
        for (key, since) in &copy.given {
            let old = now.saturating_sub(*since) >= GIVEN_MS;
            if (old || free < wanted) && !named.contains(&key.id) {
                gone.push(*key);
                free += 1;
            }
        }
        for key in &gone {
            self.token.forget_prekey(key.id).await?;
        }
        copy.given.retain(|(key, _)| !gone.contains(key));
        if copy.given == before {
            return Ok(());
        }
        self.vault.save_generations(&copy, None)
    }

    /// Ids of one-time prekeys that first messages name which wait for the user.
    fn named_prekeys(&mut self) -> Result<HashSet<u32>> {
        let mut named = HashSet::new();
        for request in self.vault.requests()? {
            if request.asked != Asked::First {
                continue;
            }
            let envelope = self.vault.request_envelope(request.id)?.unwrap_or_default();
            if let Ok(Envelope::First { header, .. }) = codec::decode::<Envelope<'_>>(&envelope) {
                named.extend(header.one_time);
            }
        }
        Ok(named)
    }

    /// Makes one and leaves it at the relay.
    pub(super) async fn new_prekey(&mut self, kind: PrekeyKind) -> Result<()> {
        let prekey = self.token.new_prekey(kind).await?;
        crash::point("prekey-made");
        self.vault.add_prekey(&prekey)?;
        crash::point("prekey-stored");
        self.put_prekeys().await
    }

    /// Leaves those at the relay that it does not have.
    async fn put_prekeys(&mut self) -> Result<()> {
        let home = self.home_relay();
        for (id, prekey) in self.vault.prekeys()? {
            self.at(&home).await?.put_prekey(prekey).await?;
            self.vault.drop_prekey(id)?;
        }
        Ok(())
    }
}
