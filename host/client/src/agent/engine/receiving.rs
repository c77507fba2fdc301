//! A receiver: what it waits for, and what it does then, one thing at a time, so that others are served in between.
//!
//! ```text
//!  connect ─▶ wait ─▶ act: a delivery, the end of the mailbox, receipts, upkeep ─▶ wait ..      lost: back off, connect
//! ```

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Client;
use super::event::{Observer, note};
use super::incoming::Handled;
use super::receive::at;
use super::send::is_transient;
use crate::error::{Error, Fault, Result};
use crate::model::Note;
use crate::relay::{Backoff, Delivered};

/// Attempts to connect again of a receiver that ends with the mailbox.
const PATIENCE: u32 = 4;
/// How long a receipt waits for a message that it can leave with.
const RECEIPTS: Duration = Duration::from_secs(5);
/// How often a receiver that follows looks after its prekeys, and asks anew who blocks us.
const UPKEEP: Duration = Duration::from_secs(3600);
/// How long one goes on that ends with the mailbox: a relay may deliver for ever, and never say that it is empty.
const LONGEST: Duration = Duration::from_secs(600);

/// For what a receiver is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// To empty the mailbox.
    Once,
    /// To show what comes as it comes.
    Follow,
    /// For what others wait for, such as the answer to a code.
    Pairing,
}

/// How far a receiver is: connected or not, and when what is due.
pub(super) struct Receiving {
    mode: Mode,
    /// When one that empties the mailbox ends in any case.
    end: Instant,
    backoff: Backoff,
    failures: u32,
    /// What the relay did wrong when it was told last.
    broke: Option<Fault>,
    /// When to connect again, after a failure.
    retry: Option<Instant>,
    /// Deliveries were asked for at least once.
    reached: bool,
    listening: Option<Listening>,
}

/// What is due while deliveries come.
struct Listening {
    upkeep: Instant,
    receipts: Option<Instant>,
    /// The mailbox was empty once.
    drained: bool,
    /// Whoever follows was told so.
    told: bool,
}

/// What a receiver waited for.
pub(super) enum Woken {
    /// It is time to connect.
    Connect,
    /// Something came, or the connection is over.
    Pushed(Result<Option<Delivered>>),
    /// Receipts have waited for long enough.
    Receipts,
    /// It is time to look after prekeys.
    Upkeep,
    /// It has waited for long enough.
    End,
    /// The token is gone.
    Unplugged(Error),
}

/// Whether a receiver goes on.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
pub(super) enum Progress {
    /// It does.
    Going,
    /// It does, and something was delivered.
    Handled(Handled),
    /// The mailbox was emptied, by one that was there for that.
    Ended,
}

impl Receiving {
    /// One that begins.
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            end: Instant::now() + LONGEST,
            backoff: Backoff::default(),
            failures: 0,
            broke: None,
            retry: None,
            reached: false,
            listening: None,
        }
    }

    /// Is there for something else from now on.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        self.mode = mode;
        self.end = Instant::now() + LONGEST;
        if let Some(listening) = &mut self.listening
            && listening.drained
            && mode != Mode::Pairing
        {
            // What is due with an empty mailbox is due now.
            listening.upkeep = Instant::now();
        }
    }

    /// Whether the mailbox was empty, and nothing has come that was not seen.
    pub(super) fn is_listening(&self) -> bool {
        self.listening.as_ref().is_some_and(|l| l.told)
    }

    /// Waits for what there is to do next. Dropping the future loses nothing.
    pub(super) async fn wait(&mut self, client: &mut Client) -> Woken {
        let mut token = client.token.gone();
        let Some(listening) = &self.listening else {
            let Some(retry) = self.retry else {
                return Woken::Connect;
            };
            return tokio::select! {
                unplugged = token.unplugged() => Woken::Unplugged(unplugged),
                () = sleep_until(retry) => Woken::Connect,
            };
        };
        if client.emptied && !listening.drained {
            // Somebody else has seen it.
            return Woken::Pushed(Ok(None));
        }
        let (upkeep, receipts) = match self.mode {
            Mode::Pairing => (None, None),
            _ => (Some(listening.upkeep), listening.receipts),
        };
        let receipts = receipts.filter(|receipts| Some(*receipts) < upkeep);
        let end = (self.mode == Mode::Once).then_some(self.end);
        tokio::select! {
            biased;
            unplugged = token.unplugged() => Woken::Unplugged(unplugged),
            () = at(end) => Woken::End,
            step = client.next_step() => Woken::Pushed(step),
            () = at(receipts) => Woken::Receipts,
            () = at(upkeep) => Woken::Upkeep,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// What it does not get over: those of relay, token, vault, and of the output.
    pub(super) async fn act(
        &mut self,
        woken: Woken,
        client: &mut Client,
        observer: &mut dyn Observer,
    ) -> Result<Progress> {
        let done = match woken {
            Woken::Unplugged(error) => Err(error),
            Woken::Connect => self.connect(client, observer).await,
            Woken::Pushed(Err(error)) => Err(error),
            Woken::Pushed(Ok(Some(delivered))) => self.take(delivered, client, observer).await,
            Woken::Receipts => {
                self.settled();
                let settled = client.settle_mailbox(observer).await;
                settled.map(|()| Progress::Going)
            }
            Woken::Pushed(Ok(None)) => self.drained(client, observer).await,
            Woken::Upkeep => {
                client.ask_relays_anew();
                client.tell_drops(true, observer)?;
                self.upkeep(client, observer).await
            }
            Woken::End => {
                let (relay, minutes) = (client.home_relay(), LONGEST.as_secs() / 60);
                note(observer, Note::NotDrained { relay, minutes })?;
                client.settle_mailbox(observer).await?;
                client.leave().await?;
                return Ok(Progress::Ended);
            }
        };
        match done {
            Ok(progress) => Ok(progress),
            Err(error) => self
                .failed(error, client, observer)
                .map(|()| Progress::Going),
        }
    }

    async fn connect(
        &mut self,
        client: &mut Client,
        observer: &mut dyn Observer,
    ) -> Result<Progress> {
        self.retry = None;
        self.reached |= client.receiving;
        if self.mode != Mode::Pairing {
            client.show_new(observer)?;
        }
        client.start_receiving().await?;
        self.reached = true;
        if self.mode != Mode::Pairing {
            client.show_notices(observer)?;
            client.flush_noting(observer).await?;
        }
        let now = Instant::now();
        let due = client.emptied && self.mode != Mode::Pairing;
        self.listening = Some(Listening {
            upkeep: if due { now } else { now + UPKEEP },
            receipts: None,
            drained: client.emptied,
            told: false,
        });
        Ok(Progress::Going)
    }

    async fn take(
        &mut self,
        delivered: Delivered,
        client: &mut Client,
        observer: &mut dyn Observer,
    ) -> Result<Progress> {
        let handled = client.handle(delivered, observer).await?;
        if self.mode == Mode::Pairing {
            self.backoff.reset();
            return Ok(Progress::Handled(handled));
        }
        client.show_new(observer)?;
        let paired = matches!(handled, Handled::Paired(_));
        if self.mode == Mode::Follow || paired {
            client.flush_noting(observer).await?;
            if let Some(listening) = &mut self.listening {
                let soon = Instant::now() + RECEIPTS;
                listening.receipts.get_or_insert(soon);
            }
        }
        if paired {
            client.adopt_requests(observer).await?;
        }
        Ok(Progress::Handled(handled))
    }

    fn settled(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.receipts = None;
        }
    }

    async fn drained(
        &mut self,
        client: &mut Client,
        observer: &mut dyn Observer,
    ) -> Result<Progress> {
        if let Some(listening) = &mut self.listening {
            listening.drained = true;
        }
        if self.mode == Mode::Pairing {
            self.backoff.reset();
            client.mailbox_drained(observer)?;
            return Ok(Progress::Going);
        }
        self.upkeep(client, observer).await
    }

    /// Does what is due when the mailbox is empty, and once an hour.
    async fn upkeep(
        &mut self,
        client: &mut Client,
        observer: &mut dyn Observer,
    ) -> Result<Progress> {
        self.settled();
        self.backoff.reset();
        // The relay's time is known by now.
        client.vault.prune_seen()?;
        client.vault.prune_sealed()?;
        client.mailbox_drained(observer)?;
        client.settle_mailbox(observer).await?;
        client.adopt_requests(observer).await?;
        client.look_after_prekeys(observer).await?;
        let relay = client.home_relay();
        if let Some(listening) = &mut self.listening {
            listening.upkeep = Instant::now() + UPKEEP;
        }
        if self.mode != Mode::Follow {
            client.leave().await?;
            return Ok(Progress::Ended);
        }
        if let Some(listening) = &mut self.listening
            && !std::mem::replace(&mut listening.told, true)
        {
            note(observer, Note::Listening { relay })?;
        }
        Ok(Progress::Going)
    }

    /// Decides whether to try again after an error, and when.
    fn failed(
        &mut self,
        error: Error,
        client: &mut Client,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let was_listening = self.listening.take().is_some();
        let reached = std::mem::take(&mut self.reached) || was_listening;
        let fault = Fault::from(&error);
        match error {
            // Tomorrow it may be mended; what it does wrong is said once.
            Error::RelayProtocol { .. } if self.mode == Mode::Follow => {
                if self.broke.as_ref() != Some(&fault) {
                    self.broke = Some(fault.clone());
                    note(observer, Note::Broke { fault })?;
                }
            }
            error if !is_transient(&error) => return Err(error),
            // Whoever only empties the mailbox is told at once of a relay that was never reached.
            error if self.mode == Mode::Once && (self.failures >= PATIENCE || !reached) => {
                return Err(error);
            }
            _ => {
                self.failures += 1;
                note(observer, Note::Reconnecting { fault })?;
            }
        }
        client.disconnect();
        self.retry = Some(Instant::now() + self.backoff.next(&mut client.os.rng()));
        Ok(())
    }
}
