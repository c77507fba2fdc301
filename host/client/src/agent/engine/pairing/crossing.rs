//! Two codes at once: the one who should type our code has made one too.
//!
//! ```text
//!  our code is shown ─▶ an offer of the very peer ─┬─ somebody can be asked: our user may type the peer's code right here
//!                                                  │     ─▶ answered ─▶ message 3: paired, our own code ends
//!                                                  └─ nobody can: told what to do; our own code goes on
//! ```
//!
//! The one whose address sorts first is told to type the other's code, the other to wait.
//!
//! Either code will do. Whoever's is typed first and right pairs the two, and the other code ends. Should both be typed at
//! the same moment, two sessions come of it, both verified: each end opens what the other seals in either.

use std::future::pending;

use hostchat_core::wire::{Address, SessionStartId};
use zeroize::Zeroizing;

use super::super::Client;
use super::super::event::{Observer, TypedCode, note, tell};
use super::super::send::is_transient;
use crate::error::{Error, Fault, Result};
use crate::model::{Asked, Event, Note, Request};

/// What is known of the peer's code while ours is shown.
#[derive(Default)]
pub(super) struct Crossing {
    /// The run that the user was told of, or asked for.
    told: Option<SessionStartId>,
    /// Somebody is being asked for the code of this request.
    asking: Option<(Request, TypedCode)>,
    /// The peer's run that was answered.
    answered: Option<SessionStartId>,
}

impl Crossing {
    /// Whether this is the run of the peer that was answered here.
    pub(super) fn has_answered(&self, sid: &SessionStartId) -> bool {
        self.answered == Some(*sid)
    }

    /// Waits until somebody has typed the peer's code; for ever if nobody is asked. Dropping the future loses nothing.
    pub(super) async fn typed(&mut self) -> (Request, Option<Zeroizing<[u8; 6]>>) {
        let Some((request, code)) = &mut self.asking else {
            return pending().await;
        };
        let typed = code.await.ok().flatten();
        let request = request.clone();
        self.asking = None;
        (request, typed)
    }
}

impl Client {
    /// Looks whether the peer has made a code as well; if so the user is asked for it, or told what to do.
    pub(super) async fn look_for_crossing(
        &mut self,
        peer: &Address,
        crossing: &mut Crossing,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        // While an answer is under way, or somebody types, nothing is asked.
        if crossing.asking.is_some() {
            return Ok(());
        }
        // The user has named the peer, and its relay was reached for our own offer.
        match self.check_requests(peer).await {
            Err(error) if is_transient(&error) => {}
            other => other?,
        }
        let offers = self.vault.requests()?.into_iter().rev();
        let mut offers = offers.filter(|r| r.from == *peer && r.checked);
        let Some((request, sid)) = offers.find_map(|r| match r.asked {
            Asked::Code { sid } => Some((r, sid)),
            Asked::First => None,
        }) else {
            return Ok(());
        };
        if crossing.told == Some(sid) || self.is_changed(&request)? {
            return Ok(());
        }
        crossing.told = Some(sid);
        // Both ends come to the same: if each followed the same advice, both would give up, or both would wait.
        let types = self.address() < *peer;
        let can_answer = self.vault.answer_wait(crate::os::uptime())?.is_none();
        let typed = if can_answer {
            observer.ask_code(peer, types)
        } else {
            None
        };
        let asks = typed.is_some();
        crossing.asking = typed.map(|typed| (request, typed));
        let peer = peer.clone();
        tell(observer, Event::CrossedCodes { peer, asks, types })
    }

    /// Answers the peer's run with what was typed. What goes wrong is told; our own code goes on.
    pub(super) async fn answer_crossing(
        &mut self,
        request: &Request,
        code: Zeroizing<[u8; 6]>,
        crossing: &mut Crossing,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if !self.is_open(request)? {
            let peer = request.from.clone();
            return note(observer, Note::CodeEnded { peer });
        }
        match self.answer_code(request, code, false, observer).await {
            Ok(sid) => {
                crossing.answered = Some(sid);
                Ok(())
            }
            Err(error @ (Error::Interrupted | Error::Database(_) | Error::Internal(_))) => {
                Err(error)
            }
            Err(error) => {
                let fault = Fault::from(&error);
                note(observer, Note::CrossedCodes { fault })
            }
        }
    }
}
