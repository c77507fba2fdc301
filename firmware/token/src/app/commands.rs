//! Commands inside the channel: decoded, checked for presence, carried out, answered.

use core::pin::pin;

use heapless::VecView;
use hostchat_core::error::Error;
use hostchat_core::icd::{Act, Command, Reply, Status, TokenError};
use hostchat_core::wire::relay::login_items;
use hostchat_core::wire::{Account, Bytes, PrekeyKind, RelayName, codec};
use rand_core::Rng as _;

use super::error::Failed;
use super::generation::Turn;
use super::keystore::{PinPassword, PinWrap, open_box, put_pin};
use super::{Work, apart, touch};
use crate::env::{Env, PresencePolicy, TouchReason};

/// An encoded reply.
pub(super) type Answer = VecView<u8>;

/// What happens to the token after the reply is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Stay,
    Lock,
    Wiped,
    PinChanged,
}

#[inline(never)]
fn decode(request: &[u8]) -> Result<Command<'_>, Error> {
    codec::decode(request)
}

/// Encodes a reply.
#[inline(never)]
pub(super) fn answer_with(reply: &Reply<'_>, answer: &mut Answer) -> Result<(), Failed> {
    codec::encode_into(reply, answer).map_err(|_| Failed(TokenError::BadRequest))
}

#[inline(never)]
fn answer_done(answer: &mut Answer) -> Result<(), Failed> {
    answer_with(&Reply::Done, answer)
}

/// Encodes a reply around its body, which stands in `answer` already.
#[inline(never)]
pub(super) fn answer_around(reply: &Reply<'_>, answer: &mut Answer) -> Result<(), Failed> {
    codec::encode_around(reply, answer).map_err(|_| Failed(TokenError::BadRequest))
}

/// Whether a command needs no press on a token that asks for one for everything: it ends something, it shows what is there,
/// or it keeps in order what the host does by itself. A host must be able to do that while nobody is near.
fn is_upkeep(command: &Command<'_>) -> bool {
    matches!(
        command,
        Command::Lock
            | Command::Discard
            | Command::Commit { .. }
            | Command::NewPrekey { .. }
            | Command::DropPrekeys
            | Command::ForgetPrekey { .. }
            | Command::Generations
            | Command::PlanGeneration { .. }
            | Command::AdoptGeneration { .. }
            | Command::Status
            | Command::Prekeys
            | Command::NextContact { .. }
            | Command::Sessions { .. }
            | Command::FindContact { .. }
            | Command::Log
    )
}

impl<E: Env> Work<'_, E> {
    /// Carries out an encoded command and encodes the reply, which is never empty.
    pub(super) async fn command(&mut self, request: &[u8], answer: &mut Answer) -> Flow {
        let command = decode(request);
        let done = match &command {
            Ok(command) => apart(pin!(self.carry_out(command, answer))).await,
            Err(_) => Err(Failed(TokenError::BadRequest)),
        };
        if let Some(act) = command.ok().as_ref().and_then(Act::of) {
            self.log.note(self.env.now().ms, act, done.is_ok());
        }
        self.room.answers.clear();
        done.unwrap_or_else(|Failed(error)| {
            // A failed command leaves neither plaintext nor envelope behind in its answer.
            answer.fill(0);
            let _ = codec::encode_into(&Reply::Failed(error), answer);
            Flow::Stay
        })
    }

    async fn carry_out(
        &mut self,
        command: &Command<'_>,
        answer: &mut Answer,
    ) -> Result<Flow, Failed> {
        if self.env.presence() == PresencePolicy::Everything && !is_upkeep(command) {
            self.press(TouchReason::EveryCommand).await?;
        }
        match command {
            Command::ChangePin {
                wrap,
                new_salt,
                new_prs,
                new_wrap,
            } => {
                self.press(TouchReason::ChangePin).await?;
                let new = (
                    PinPassword::from_bytes(new_prs.0),
                    PinWrap::from_bytes(new_wrap.0),
                );
                let wrap = PinWrap::from_bytes(wrap.0);
                apart(pin!(self.change_pin(&wrap, new_salt, &new.0, &new.1))).await?;
                answer_done(answer)?;
                return Ok(Flow::PinChanged);
            }
            Command::Wipe => {
                self.press(TouchReason::Wipe).await?;
                apart(pin!(self.store.wipe())).await?;
                answer_done(answer)?;
                return Ok(Flow::Wiped);
            }
            Command::NewPrekey { kind, now } => {
                apart(pin!(self.new_prekey(*kind, *now, answer))).await?;
            }
            Command::PairBegin {
                own,
                peer,
                accept_changed,
            } => {
                apart(pin!(self.pair_begin(own, peer, *accept_changed, answer))).await?;
            }
            Command::PairConfirm { answer: message } => {
                apart(pin!(self.pair_confirm(message, answer))).await?;
            }
            Command::PairAnswer {
                own,
                offer,
                code,
                accept_changed,
            } => {
                let accept_changed = *accept_changed;
                apart(pin!(self.pair_answer(
                    own,
                    offer,
                    &code.0,
                    accept_changed,
                    answer
                )))
                .await?;
            }
            Command::Start {
                own,
                peer,
                bundle,
                now,
                accept_changed,
            } => {
                let (now, accept_changed) = (*now, *accept_changed);
                apart(pin!(self.start(
                    own,
                    peer,
                    bundle,
                    now,
                    accept_changed,
                    answer
                )))
                .await?;
            }
            Command::Seal { peer, content } => {
                apart(pin!(self.seal(peer, content, answer))).await?;
            }
            Command::Open {
                own,
                envelope,
                accept_changed,
            } => {
                apart(pin!(self.open(own, envelope, *accept_changed, answer))).await?;
            }
            Command::Commit { hash } => {
                apart(pin!(self.commit(hash))).await?;
                answer_done(answer)?;
            }
            Command::NextContact { .. } | Command::FindContact { .. } => {
                let address = match command {
                    Command::NextContact { after } => self.contact_after(after.as_ref()),
                    Command::FindContact { session } => self.contact_of(session),
                    _ => None,
                };
                apart(pin!(self.show_contact(address, answer))).await?;
            }
            Command::Forget { peer } => {
                apart(pin!(self.forget(peer))).await?;
                answer_done(answer)?;
            }
            Command::PlanGeneration { .. } | Command::AdoptGeneration { .. } => {
                let turn = match *command {
                    Command::AdoptGeneration { current, supersede } => {
                        Turn::Adopt { current, supersede }
                    }
                    Command::PlanGeneration { next } => Turn::Plan(next),
                    _ => return Err(Failed(TokenError::BadRequest)),
                };
                apart(pin!(self.turn_generation(turn))).await?;
                answer_done(answer)?;
            }
            Command::DropPrekeys => {
                apart(pin!(self.drop_prekeys())).await?;
                answer_done(answer)?;
            }
            Command::ForgetPrekey { id } => {
                apart(pin!(self.delete_prekey(PrekeyKind::OneTime, *id))).await?;
                answer_done(answer)?;
            }
            Command::Generations
            | Command::Prekeys
            | Command::Sessions { .. }
            | Command::Status
            | Command::Identity
            | Command::Lock
            | Command::Login { .. }
            | Command::PairOffer
            | Command::PairEnd
            | Command::Discard
            | Command::StorageKey
            | Command::Random
            | Command::Log => return self.carry_out_at_once(command, answer),
        }
        Ok(Flow::Stay)
    }

    /// Carries out a command that waits for nothing.
    #[inline(never)]
    fn carry_out_at_once(
        &mut self,
        command: &Command<'_>,
        answer: &mut Answer,
    ) -> Result<Flow, Failed> {
        let reply = match command {
            Command::Status => Reply::Status(self.status()),
            Command::Identity => Reply::Identity(*self.keyring.identity.public().claim()),
            Command::Lock => {
                answer_done(answer)?;
                return Ok(Flow::Lock);
            }
            Command::Login {
                account,
                dialled,
                challenge,
                exporter,
            } => Reply::Signature(self.login(account, dialled, challenge, exporter)),
            Command::PairOffer => {
                self.pair_offer(answer)?;
                return Ok(Flow::Stay);
            }
            Command::PairEnd => {
                self.keyring.code = None;
                Reply::Done
            }
            Command::Discard => {
                self.discard();
                Reply::Done
            }
            Command::StorageKey => {
                Reply::StorageKey(Bytes(*self.keyring.storage_key().expose_bytes()))
            }
            Command::Random => {
                let mut random = Bytes([0; 32]);
                rng(self.env)?.fill_bytes(&mut random.0);
                Reply::Random(random)
            }
            Command::Log => {
                self.show_log(answer)?;
                return Ok(Flow::Stay);
            }
            Command::Generations => Reply::Generations(self.keyring.generation.generations()),
            Command::Prekeys => {
                self.show_prekeys(answer)?;
                return Ok(Flow::Stay);
            }
            Command::Sessions { peer } => {
                self.show_sessions(peer, answer)?;
                return Ok(Flow::Stay);
            }
            _ => return Err(Failed(TokenError::BadRequest)),
        };
        answer_with(&reply, answer)?;
        Ok(Flow::Stay)
    }

    #[inline(never)]
    fn show_log(&mut self, answer: &mut Answer) -> Result<(), Failed> {
        answer_with(&Reply::Log(self.log.show(self.env.now().ms)), answer)
    }

    /// Asks for a press, once per request.
    pub(super) async fn press(&mut self, reason: TouchReason) -> Result<(), Failed> {
        if !self.pressed {
            touch(self.env, reason).await?;
            self.pressed = true;
        }
        Ok(())
    }

    async fn change_pin(
        &mut self,
        wrap: &PinWrap,
        new_salt: &Bytes<16>,
        password: &PinPassword,
        new_wrap: &PinWrap,
    ) -> Result<(), Failed> {
        let Some(master) = open_box(self.store, wrap).await? else {
            return Err(Failed(TokenError::WrongPin));
        };
        let token_id = super::keystore::token_id(self.store).await?;
        let rng = rng(self.env)?;
        put_pin(
            self.store,
            rng,
            (&token_id, new_salt),
            password,
            new_wrap,
            &master,
        )
        .await?;
        Ok(())
    }

    /// Signs a login that the token itself builds from its fields.
    fn login(
        &self,
        account: &Account,
        dialled: &RelayName,
        challenge: &Bytes<32>,
        exporter: &Bytes<32>,
    ) -> Bytes<64> {
        let identity = &self.keyring.identity;
        let text = account.signed_text();
        Bytes(login_items(
            text,
            dialled,
            &challenge.0,
            &exporter.0,
            identity.public().claim(),
            |items| identity.signing_key().sign(items),
        ))
    }

    fn status(&mut self) -> Status {
        let last_resort = self.keyring.prekeys.newest_last_resort();
        Status {
            sessions: self.room.cards.len() as u16,
            sessions_max: self.sessions_max() as u16,
            one_time_prekeys: self.keyring.prekeys.one_time_count() as u16,
            last_resort_id: last_resort.map_or(0, |prekey| prekey.id),
            last_resort_issued: last_resort.map_or(0, |prekey| prekey.issued),
            pending: self.keyring.pending,
            slot_erases: self.store.wear(),
        }
    }
}

/// The random generator, if it is healthy.
pub(super) fn rng<E: Env>(env: &mut E) -> Result<&mut E::Rng, Failed> {
    env.rng().ok_or(Failed(TokenError::Random))
}
