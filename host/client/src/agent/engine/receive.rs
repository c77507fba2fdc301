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
use std::time::Duration;

use hostchat_core::wire::Address;
use tokio::time::{Instant, sleep_until};

use super::Client;
use super::event::{Observer, note, tell};
use super::incoming::Handled;
use super::send::{is_ours, is_transient};
use crate::crash;
use crate::error::{Error, Result};
use crate::model::event::{MessageEvent, WaitingFor};
use crate::model::{Event, Fault, Note};
use crate::relay::{Backoff, Delivered, Pushed};
use crate::vault::Shown;

/// Attempts to connect again within a `recv` that does not follow.
const PATIENCE: u32 = 4;
/// How long a receipt waits for a message that it can leave with.
const RECEIPTS: Duration = Duration::from_secs(5);
/// How often a `recv` that follows looks after its prekeys, and asks anew who blocks us.
const UPKEEP: Duration = Duration::from_secs(3600);

/// How long a `recv` that does not follow goes on: a relay may deliver for ever, and never say that the mailbox is empty.
const LONGEST: Duration = Duration::from_secs(600);

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
        let mut backoff = Backoff::default();
        let mut failures = 0;
        let mut broke = None;
        let end = Instant::now() + LONGEST;
        loop {
            let was_receiving = self.receiving;
            let end = (!follow).then_some(end);
            match self.receive_once(end, &mut backoff, observer).await {
                // Tomorrow it may be mended; what it does wrong is said once.
                Err(error @ Error::RelayProtocol { .. }) if follow => {
                    let fault = Fault::from(&error);
                    if broke.as_ref() != Some(&fault) {
                        broke = Some(fault.clone());
                        note(observer, Note::Broke { fault })?;
                    }
                    self.disconnect();
                    self.pause(&mut backoff).await?;
                }
                Err(error) if is_transient(&error) => {
                    // Without `follow` a relay that was never reached is an error at once.
                    if !follow && (failures >= PATIENCE || !(was_receiving || self.receiving)) {
                        return Err(error);
                    }
                    failures += 1;
                    self.reconnecting(&error, &mut backoff, observer).await?;
                }
                other => {
                    self.tell_drops(true, observer)?;
                    return other;
                }
            }
        }
    }

    async fn receive_once(
        &mut self,
        end: Option<Instant>,
        backoff: &mut Backoff,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let follow = end.is_none();
        self.show_new(observer)?;
        self.start_receiving().await?;
        self.show_notices(observer)?;
        self.flush_noting(observer).await?;
        let stop = self.stop.clone();
        let mut token = self.token.gone();
        let mut upkeep = Instant::now() + UPKEEP;
        let mut receipts: Option<Instant> = None;
        let mut listens = false;
        loop {
            let next = receipts.map_or(upkeep, |receipts| receipts.min(upkeep));
            let step = tokio::select! {
                biased;
                () = stop.wished() => return Err(Error::Interrupted),
                unplugged = token.unplugged() => return Err(unplugged),
                () = at(end) => {
                    let (relay, minutes) = (self.home_relay(), LONGEST.as_secs() / 60);
                    note(observer, Note::NotDrained { relay, minutes })?;
                    self.settle_mailbox(observer).await?;
                    return self.leave().await;
                }
                step = self.next_step() => step?.map(Some),
                () = sleep_until(next), if next < upkeep => Some(None),
                () = sleep_until(upkeep) => {
                    self.ask_relays_anew();
                    self.tell_drops(true, observer)?;
                    None
                }
            };
            match step {
                Some(Some(delivered)) => {
                    let handled = self.handle(delivered, observer).await?;
                    self.show_new(observer)?;
                    let paired = matches!(handled, Handled::Paired(_));
                    if follow || paired {
                        self.flush_noting(observer).await?;
                        receipts = receipts.or(Some(Instant::now() + RECEIPTS));
                    }
                    if paired {
                        self.adopt_requests(observer).await?;
                    }
                }
                Some(None) => {
                    receipts = None;
                    self.settle_mailbox(observer).await?;
                }
                None => {
                    receipts = None;
                    backoff.reset();
                    // The relay's time is known by now.
                    self.vault.prune_seen()?;
                    self.vault.prune_sealed()?;
                    self.mailbox_drained(observer)?;
                    self.settle_mailbox(observer).await?;
                    self.adopt_requests(observer).await?;
                    self.look_after_prekeys(observer).await?;
                    if !follow {
                        return self.leave().await;
                    }
                    if !std::mem::replace(&mut listens, true) {
                        let relay = self.home_relay();
                        note(observer, Note::Listening { relay })?;
                    }
                    upkeep = Instant::now() + UPKEEP;
                }
            }
        }
    }

    /// Does what is due when everything that had come is taken in: questions, new sessions, receipts.
    async fn settle_mailbox(&mut self, observer: &mut dyn Observer) -> Result<()> {
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
                self.drained = true;
                Ok(None)
            }
        }
    }

    /// Handles what has arrived until now, without waiting for more.
    ///
    /// # Errors
    /// Those of relay, token, vault.
    pub async fn catch_up(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let home = self.home_relay();
        self.start_receiving().await?;
        // What the relay sent before it answers has arrived when the answer has.
        self.at(&home).await?.ping().await?;
        while let Some(pushed) = self.connections.get_mut(&home).and_then(|c| c.try_next()) {
            if let Pushed::Deliver(delivered) = pushed {
                self.handle(*delivered, observer).await?;
            }
        }
        Ok(())
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
    fn disconnect(&mut self) {
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

    /// Shows, in order, what has not been shown.
    ///
    /// # Errors
    /// Those of the vault and of the output.
    pub fn show_new(&mut self, observer: &mut dyn Observer) -> Result<()> {
        while let Some((message, shown)) = self.vault.next_to_show()? {
            let contact = self.vault.contact_at(&message.peer)?;
            let name = contact.map_or_else(|| message.peer.to_string(), |c| c.name);
            self.vault.mark_showing(message.id)?;
            crash::point("showing-marked");
            let event = MessageEvent::new(&message, &name, shown == Shown::Perhaps);
            tell(observer, Event::Message(event))?;
            crash::point("printed");
            self.vault.mark_shown(&message, self.keeps_history())?;
            crash::point("shown-marked");
        }
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
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
