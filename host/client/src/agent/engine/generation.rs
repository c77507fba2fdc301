//! Generations: keys that went back in time are found before anything is sealed or opened with them.
//!
//! ```text
//!  vault: next ─▶ token: next ─▶ relay: compare and set ─▶ token: current ─▶ vault: current ─▶ keys may be used
//!                                     └─ another pair: these keys are old, or a copy of them is in use
//!                                          ─▶ supersede all sessions, replace the prekeys, begin anew with every contact
//! ```
//!
//! Invariant: nothing is sealed, opened or acknowledged before the home relay has answered in this run, nor after a
//! second surprise within a day until the user gives word (SPEC section 9.8).

use std::time::Duration;

use hostchat_core::wire::{Bytes, Generation};
use tokio::time::Instant;

use super::Client;
use super::event::Observer;
use crate::crash;
use crate::error::{Error, Result};
use crate::model::{Notice, TokenKind};
use crate::os::Os;
use crate::vault::Generations;

/// After so many uses of its keys a client looks whether a copy of them is in use.
const USES: u32 = 64;
/// And after this time.
const EVERY: Duration = Duration::from_secs(15 * 60);
/// A second surprise within this time stops the client, in milliseconds: a day.
const SURPRISES_MS: u64 = 24 * 3600 * 1000;

/// Keys that may be used: the home relay has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    uses: u32,
    since: Instant,
}

impl Client {
    /// Makes sure that the keys may be used for one more seal or open.
    ///
    /// # Errors
    /// `Stopped`; those of relay, token, vault.
    pub(super) async fn prepare_keys(&mut self) -> Result<()> {
        let home = self.home_relay();
        self.connect(&home).await?;
        match &mut self.ready {
            Some(ready) if ready.uses < USES && ready.since.elapsed() < EVERY => {
                ready.uses += 1;
                Ok(())
            }
            _ => self.advance().await,
        }
    }

    /// Tells that the vault of a token that was in use is gone, without the relay too.
    ///
    /// # Errors
    /// Those of token, vault and output.
    pub async fn tell_of_new_vault(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.vault.generations()?.is_some() {
            return Ok(());
        }
        self.generations().await?;
        self.show_notices(observer)
    }

    /// Moves the generation on, and finds out whether these keys are the newest.
    async fn advance(&mut self) -> Result<()> {
        let first = self.ready.take().is_none();
        let mut copy = self.generations().await?;
        if copy.stopped {
            return Err(Error::Stopped { since: copy.dated });
        }
        if first {
            self.compare_copies(&mut copy).await?;
        }
        loop {
            if let Some(there) = copy.surprise {
                self.start_over(&mut copy, there).await?;
            }
            let token = self.token.generations().await?;
            if first && self.is_recent(&copy, &token.current) {
                break;
            }
            let to = match token.next {
                Some(next) => next,
                None => {
                    let next = following(&token.current, &self.os);
                    // Power may have failed when the token alone had adopted it: the two must go on having a pair in common.
                    if copy.next == Some(token.current) {
                        copy.current = token.current;
                    }
                    copy.next = Some(next);
                    self.vault.save_generations(&copy, None)?;
                    crash::point("generation-noted");
                    self.token.plan_generation(next).await?;
                    crash::point("generation-planned");
                    next
                }
            };
            let there = self.compare_and_set(token.current, to).await?;
            crash::point("generation-asked");
            if let Some(there) = there {
                self.surprised(&mut copy, &token.current, there)?;
                continue;
            }
            let lost = token.sessions_lost;
            let notice = (lost > 0).then_some(Notice::SessionsLost { count: lost });
            if let Some(notice) = &notice {
                self.vault.add_notice(notice)?;
            }
            self.token.adopt_generation(to, false).await?;
            crash::point("generation-adopted");
            copy.current = to;
            copy.next = None;
            copy.dated = self.os.now_ms();
            self.vault.save_generations(&copy, None)?;
            break;
        }
        self.ready = Some(Ready {
            uses: 1,
            since: Instant::now(),
        });
        Ok(())
    }

    /// A hardware token cannot be copied with `cp`: at a login its generation need not move on each time.
    fn is_recent(&self, copy: &Generations, current: &Generation) -> bool {
        let age = self.os.now_ms().abs_diff(copy.dated);
        self.config.token == TokenKind::Serial
            && copy.current == *current
            && copy.next.is_none()
            && *current != Generation::NONE
            && u128::from(age) < EVERY.as_millis()
    }

    /// The vault's copy; a vault that was just made takes the token's.
    async fn generations(&mut self) -> Result<Generations> {
        if let Some(copy) = self.vault.generations()? {
            return Ok(copy);
        }
        let token = self.token.generations().await?;
        let mut copy = Generations {
            current: token.current,
            next: token.next,
            ..Generations::new(self.os.now_ms())
        };
        if token.current == Generation::NONE && token.next.is_none() {
            // A new identity has sealed nothing that is not on the list.
            copy.sealed_since = 0;
            self.vault.save_generations(&copy, None)?;
            return Ok(copy);
        }
        // The vault of a token that was in use is gone: nobody knows from when its keys are.
        copy.dated = 0;
        self.contacts_of_token().await?;
        let notice = Notice::HistoryOld { since: 0 };
        self.vault.save_generations(&copy, Some(&notice))?;
        Ok(copy)
    }

    /// Token and vault have no pair in common: only one of the two was restored. If it is the token, the relay says so.
    async fn compare_copies(&mut self, copy: &mut Generations) -> Result<()> {
        let token = self.token.generations().await?;
        let ours = [Some(copy.current), copy.next];
        let common = [Some(token.current), token.next]
            .into_iter()
            .flatten()
            .any(|pair| ours.contains(&Some(pair)));
        if common || copy.surprise.is_some() || token.current.number < copy.current.number {
            return Ok(());
        }
        let notice = Notice::HistoryOld { since: copy.dated };
        copy.current = token.current;
        copy.next = token.next;
        copy.sealed_since = self.os.now_ms();
        self.contacts_of_token().await?;
        self.vault.save_generations(copy, Some(&notice))
    }

    /// The token still knows with whom it has sessions: a vault that went back gets these contacts again.
    async fn contacts_of_token(&mut self) -> Result<()> {
        for known in self.token.contacts().await? {
            let contact = self.vault.contact_or_new(&known.address)?;
            self.with_identity(contact).await?;
        }
        Ok(())
    }

    /// Asks the relay to move on; `None` if it did, else the pair that is there.
    async fn compare_and_set(
        &mut self,
        current: Generation,
        to: Generation,
    ) -> Result<Option<Generation>> {
        let home = self.home_relay();
        let mut there = self.at(&home).await?.set_generation(current, to).await?;
        for _ in 0..2 {
            match there {
                // The relay went back in time, or lied before: it is set anew.
                Some(older) if older.number < current.number || older == current => {
                    there = self.at(&home).await?.set_generation(older, to).await?;
                }
                _ => break,
            }
        }
        Ok(there)
    }

    /// These keys are older than keys that were used, or a copy of this home is in use, or the relay lies.
    fn surprised(
        &mut self,
        copy: &mut Generations,
        current: &Generation,
        there: Generation,
    ) -> Result<()> {
        let now = self.os.now_ms();
        let since = copy.dated;
        let lie = there.number.saturating_sub(current.number) > Generation::MAX_JUMP;
        let again = copy
            .surprised_at
            .is_some_and(|at| now.abs_diff(at) < SURPRISES_MS);
        if lie || again {
            copy.stopped = true;
            copy.surprised_at = Some(now);
            self.vault
                .save_generations(copy, Some(&Notice::Stopped { since }))?;
            return Err(Error::Stopped { since });
        }
        copy.surprise = Some(there);
        copy.surprised_at = Some(now);
        copy.sealed_since = now;
        self.vault
            .save_generations(copy, Some(&Notice::KeysOld { since }))?;
        crash::point("surprise-noted");
        Ok(())
    }

    /// Does what follows from a surprise; every step may be repeated.
    async fn start_over(&mut self, copy: &mut Generations, there: Generation) -> Result<()> {
        let home = self.home_relay();
        self.at(&home).await?.drop_prekeys().await?;
        self.vault.clear_prekeys()?;
        self.token.drop_prekeys().await?;
        crash::point("prekeys-dropped");
        self.token.adopt_generation(there, true).await?;
        crash::point("sessions-superseded");
        self.vault.renew_all()?;
        copy.current = there;
        copy.next = None;
        copy.surprise = None;
        copy.given.clear();
        self.vault.save_generations(copy, None)
    }

    /// The user's word after a stop: goes on with these keys.
    ///
    /// # Errors
    /// `Nothing` if the account has not stopped; those of relay, token, vault.
    pub async fn resume(&mut self) -> Result<()> {
        let Some(mut copy) = self.vault.generations()?.filter(|copy| copy.stopped) else {
            let text = "this home has not stopped: use it, or run this in the copy that has";
            return Err(Error::Nothing(text.into()));
        };
        // Without the relay nothing changes.
        let home = self.home_relay();
        self.connect(&home).await?;
        copy.stopped = false;
        copy.surprised_at = None;
        self.vault.save_generations(&copy, None)?;
        for (id, notice) in self.vault.notices()? {
            if matches!(notice, Notice::Stopped { .. }) {
                self.vault.drop_notice(id)?;
            }
        }
        self.prepare_keys().await
    }
}

/// The pair after this one.
fn following(current: &Generation, os: &Os) -> Generation {
    Generation {
        number: current.number.saturating_add(1),
        random: Bytes(os.random()),
    }
}
