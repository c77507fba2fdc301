//! Receiving: from the mailbox to the user's eyes, over connections that come and go.
//!
//! ```text
//!  connect ─▶ Receive ─▶ delivery, delivery, .. drained ─▶ (follow: wait)      lost: back off, connect again
//!                           └─▶ incoming.rs
//!  [new] ─▶ [showing] ─▶ printed ─▶ [shown]
//! ```
//!
//! Invariant: a message is marked as being shown before it is printed, and as shown after; one that was caught in
//! between is printed again and says so.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;

use hostchat_core::wire::Address;
use tokio::time::{Instant, sleep_until};

use super::Client;
use super::event::{Observer, note, tell};
use super::incoming::Handled;
use super::receiving::{Mode, Progress, Receiving};
use super::send::{is_ours, is_transient};
use crate::crash;
use crate::error::{Error, Fault, Result};
use crate::model::event::{MessageEvent, WaitingFor};
use crate::model::{Event, Note};
use crate::relay::{Backoff, Delivered, Pushed};
use crate::vault::Shown;

/// So many messages are read at once to be shown.
const AT_ONCE: usize = 64;

/// What a command that waits for two things got.
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
pub(super) enum Next<T> {
    /// Something that was delivered.
    Handled(Handled),
    /// The other thing.
    Other(T),
}

impl Client {
    /// Shows what has come and comes; ends when the mailbox is empty, or with `follow` when the user wants it.
    ///
    /// # Errors
    /// `Interrupted`; those of relay, token, vault, and of the output.
    pub async fn receive(&mut self, follow: bool, observer: &mut dyn Observer) -> Result<()> {
        let mode = if follow { Mode::Follow } else { Mode::Once };
        let mut receiving = Receiving::new(mode);
        let stop = self.stop.clone();
        let done = loop {
            let woken = tokio::select! {
                biased;
                () = stop.wished() => break Err(Error::Interrupted),
                woken = receiving.wait(self) => woken,
            };
            match receiving.act(woken, self, observer).await {
                Ok(Progress::Going | Progress::Handled(_)) => {}
                Ok(Progress::Ended) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.tell_drops(true, observer)?;
        done
    }

    /// Does what is due when everything that had come is taken in: questions, new sessions, receipts.
    pub(super) async fn settle_mailbox(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.heal(observer).await?;
        self.show_notices(observer)?;
        self.flush_noting(observer).await
    }

    /// Shows what the user has to be told once.
    ///
    /// # Errors
    /// Those of the vault and of the output.
    pub fn show_notices(&mut self, observer: &mut dyn Observer) -> Result<()> {
        for (id, notice) in self.vault.notices()? {
            note(observer, notice.into())?;
            self.vault.drop_notice(id)?;
        }
        Ok(())
    }

    /// Makes sure that the relay has read every acknowledgement before the program ends.
    pub(super) async fn leave(&mut self) -> Result<()> {
        let home = self.home_relay();
        match self.connections.get(&home) {
            // What was not read is delivered once more, and known then.
            Some(connection) if connection.is_alive() => connection.ping().await.or(Ok(())),
            _ => Ok(()),
        }
    }

    /// Refills the prekeys; a relay that will not have them now is no reason to end.
    pub(super) async fn look_after_prekeys(&mut self, observer: &mut dyn Observer) -> Result<()> {
        match self.refill_prekeys().await {
            Err(error) if !is_ours(&error) => {
                let fault = Fault::from(&error);
                note(observer, Note::Prekeys { fault })
            }
            other => other,
        }
    }

    /// Connects to the home relay and asks for deliveries, once per connection.
    pub(super) async fn start_receiving(&mut self) -> Result<()> {
        let home = self.home_relay();
        self.connect(&home).await?;
        if !self.receiving {
            // Nothing is taken in, and nothing acknowledged, before these keys are known to be the newest.
            self.prepare_keys().await?;
            self.at(&home).await?.receive().await?;
            self.receiving = true;
            self.emptied = false;
        }
        Ok(())
    }

    /// The next delivery, `None` when the mailbox is empty. Dropping the future loses nothing.
    pub(super) async fn next_step(&mut self) -> Result<Option<Delivered>> {
        let home = self.home_relay();
        if !self.receiving {
            self.start_receiving().await?;
        }
        let connection = self
            .connections
            .get_mut(&home)
            .ok_or(Error::Internal("no connection"))?;
        match connection.next().await? {
            Pushed::Deliver(delivered) => Ok(Some(*delivered)),
            Pushed::Drained => {
                (self.drained, self.emptied) = (true, true);
                Ok(None)
            }
        }
    }

    /// Handles what has arrived until now, without waiting for more.
    ///
    /// # Errors
    /// Those of relay, token, vault.
    pub async fn catch_up(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.arrived(observer).await.map(drop)
    }

    /// As [`Self::catch_up`]; gives what others may wait for.
    ///
    /// # Errors
    /// Those of relay, token, vault.
    pub(super) async fn arrived(&mut self, observer: &mut dyn Observer) -> Result<Vec<Handled>> {
        let home = self.home_relay();
        let mut handled = Vec::new();
        self.start_receiving().await?;
        // What the relay sent before it answers has arrived when the answer has.
        self.at(&home).await?.ping().await?;
        while let Some(pushed) = self.connections.get_mut(&home).and_then(|c| c.try_next()) {
            match pushed {
                Pushed::Deliver(delivered) => {
                    handled.push(self.handle(*delivered, observer).await?);
                }
                Pushed::Drained => (self.drained, self.emptied) = (true, true),
            }
        }
        Ok(handled)
    }

    /// Handles deliveries until one comes that a waiting command has to look at; reconnects meanwhile.
    pub(super) async fn next_handled(
        &mut self,
        deadline: Instant,
        late: Error,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let next = self.next_handled_or(deadline, late, pending::<Infallible>(), observer);
        match next.await? {
            Next::Handled(handled) => Ok(handled),
            Next::Other(never) => match never {},
        }
    }

    /// As [`Self::next_handled`], or until `other` is there, which may be dropped at any time.
    pub(super) async fn next_handled_or<T>(
        &mut self,
        deadline: Instant,
        late: Error,
        other: impl Future<Output = T>,
        observer: &mut dyn Observer,
    ) -> Result<Next<T>> {
        let mut other = pin!(other);
        let mut backoff = Backoff::default();
        let stop = self.stop.clone();
        let mut token = self.token.gone();
        loop {
            let step = tokio::select! {
                biased;
                () = stop.wished() => return Err(Error::Interrupted),
                unplugged = token.unplugged() => return Err(unplugged),
                () = sleep_until(deadline) => return Err(late),
                other = &mut other => return Ok(Next::Other(other)),
                step = self.next_step() => step,
            };
            let result = match step {
                Ok(Some(delivered)) => self.handle(delivered, observer).await,
                Ok(None) => {
                    self.mailbox_drained(observer)?;
                    Ok(Handled::Quiet)
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(Handled::Quiet) => backoff.reset(),
                Err(error) if is_transient(&error) => {
                    self.reconnecting(&error, &mut backoff, observer).await?;
                }
                other => return other.map(Next::Handled),
            }
        }
    }

    /// Notes that the connection was lost, waits, and lets the next step connect again.
    pub(super) async fn reconnecting(
        &mut self,
        why: &Error,
        backoff: &mut Backoff,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let fault = Fault::from(why);
        note(observer, Note::Reconnecting { fault })?;
        self.disconnect();
        self.pause(backoff).await
    }

    /// Gives the connection to the home relay up.
    pub(super) fn disconnect(&mut self) {
        let home = self.home_relay();
        self.connections.remove(&home);
        self.receiving = false;
    }

    /// Waits before the next attempt.
    pub(super) async fn pause(&self, backoff: &mut Backoff) -> Result<()> {
        let wait = backoff.next(&mut self.os.rng());
        let mut token = self.token.gone();
        tokio::select! {
            () = self.stop.wished() => Err(Error::Interrupted),
            unplugged = token.unplugged() => Err(unplugged),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Acknowledges a delivery on the connection on which it came: another one knows nothing of it.
    pub(super) async fn acknowledge(&mut self, number: u64) -> Result<()> {
        let connection = self.connections.get(&self.config.relay.name);
        connection
            .ok_or_else(|| Error::RelayGone {
                relay: self.config.relay.name.to_string(),
                why: "closed".into(),
            })?
            .acknowledge(number)
            .await?;
        crash::point("acknowledged");
        Ok(())
    }

    /// Shows, in order, what has not been shown, or tells of it whoever shows it by and by.
    ///
    /// # Errors
    /// Those of the vault and of the output.
    pub fn show_new(&mut self, observer: &mut dyn Observer) -> Result<()> {
        loop {
            let messages = self.vault.to_show(self.told, AT_ONCE)?;
            let Some((last, _)) = messages.last() else {
                return Ok(());
            };
            self.told = last.id;
            for (message, shown) in messages {
                let contact = self.vault.contact_at(&message.peer)?;
                let name = contact.map_or_else(|| message.peer.to_string(), |c| c.name);
                let event = MessageEvent::new(&message, &name, shown == Shown::Perhaps);
                if observer.shows_later() {
                    tell(observer, Event::Message(event))?;
                    continue;
                }
                self.showing(&[message.id])?;
                tell(observer, Event::Message(event))?;
                self.shown(&[message.id])?;
            }
        }
    }

    /// Notes that messages are about to be shown; gives those that are still to be.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn showing(&mut self, ids: &[i64]) -> Result<Vec<i64>> {
        let mut open = Vec::with_capacity(ids.len());
        for id in ids {
            if self.vault.unshown(*id)?.is_some() {
                self.vault.mark_showing(*id)?;
                open.push(*id);
            }
        }
        crash::point("showing-marked");
        Ok(open)
    }

    /// Notes that messages were shown.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn shown(&mut self, ids: &[i64]) -> Result<()> {
        crash::point("printed");
        for id in ids {
            if let Some((message, _)) = self.vault.unshown(*id)? {
                self.vault.mark_shown(&message, self.keeps_history())?;
            }
        }
        crash::point("shown-marked");
        Ok(())
    }

    /// Tells the observer that the command waits.
    pub(super) fn waiting(
        peer: Option<&Address>,
        what: WaitingFor,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let peer = peer.cloned();
        tell(observer, Event::Waiting { peer, what })
    }
}

/// Ends at an instant, or never.
pub(super) async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
