//! What each call does: checks, limits, then the store.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hostchat_core::wire::relay::{
    Answer, BLOCKED_PAGE, Call, Event, Kind, PREKEY_STOCK, Reason, Refusal,
};
use hostchat_core::wire::{
    Address, Bytes, Generation, IdentityClaim, MAX_ENVELOPE, MessageId, Name, Prekey, PrekeyBundle,
};

use crate::blobs;
use crate::hub::Seat;
use crate::inbox::Inbox;
use crate::login::{Member, User, refused, sender_key};
use crate::server::Relay;
use crate::socket::{self, Broken, Encoded};
use crate::store::{
    Account, Advanced, Appended, BlobState, Block, NewMessage, Pending, PrekeyList, PutPrekey,
    Stock, StoreError, Taken,
};

/// Milliseconds after which a full mailbox or relay is worth another try.
pub(crate) const FULL_RETRY_MS: u32 = 60_000;

/// An answer with the id of its request, small enough to be moved about.
pub(crate) enum Answered {
    Done(u32),
    Stored(u32),
    Refused(u32, Refusal),
    Stock(u32, Stock),
    Binding(u32, Box<IdentityClaim>),
    Bundle(u32, Box<PrekeyBundle>),
    Online(u32, Vec<Name>, bool),
    Policy(u32, u16),
    Blocked(u32, Vec<Address>, bool),
    Blob(u32, BlobState),
    Part(u32, Vec<u8>),
    Generation(u32, Box<Generation>),
    Prekeys(u32, PrekeyList),
}

/// A call that waits for the store.
pub(crate) type InFlight = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// How a call goes on.
pub(crate) enum Step {
    /// Answered already.
    Now(Answered),
    /// Queued; the answer comes when it is durable.
    Later(InFlight),
    /// Deliveries begin.
    Receive(Arc<Inbox>),
}

impl Answered {
    /// Encodes the reply.
    pub(crate) fn encode(&self) -> Result<Encoded, Broken> {
        let reply = |id: &u32, answer| socket::encode(&Event::Reply { id: *id, answer });
        match self {
            Self::Done(id) => reply(id, Answer::Done),
            Self::Stored(id) => reply(id, Answer::Stored),
            Self::Refused(id, refusal) => reply(id, Answer::Refused(*refusal)),
            Self::Binding(id, claim) => reply(id, Answer::Binding(**claim)),
            Self::Bundle(id, bundle) => reply(id, Answer::Bundle(PrekeyBundle::clone(bundle))),
            Self::Stock(id, stock) => {
                let answer = Answer::PrekeyStock {
                    one_time: stock.one_time,
                    last_resort_issued: stock.last_resort_issued,
                    last_resort_id: stock.last_resort_id,
                };
                reply(id, answer)
            }
            Self::Policy(id, log_days) => reply(
                id,
                Answer::Policy {
                    log_days: *log_days,
                },
            ),
            Self::Blob(id, state) => {
                let answer = Answer::Blob {
                    size: state.size,
                    parts: state.parts,
                    expires_in: u32::try_from(state.expires_in_ms / 1000).unwrap_or(u32::MAX),
                };
                reply(id, answer)
            }
            Self::Part(id, bytes) => reply(id, Answer::Part { bytes }),
            Self::Generation(id, there) => reply(id, Answer::Generation(**there)),
            Self::Prekeys(id, list) => {
                let one_time = list.one_time.iter().take(PREKEY_STOCK);
                let answer = Answer::Prekeys {
                    one_time: one_time.copied().collect(),
                    last_resort: list.last_resort,
                };
                reply(id, answer)
            }
            Self::Online(id, names, more) => {
                let names = names.iter().map(Name::as_str).collect();
                reply(id, Answer::Online { names, more: *more })
            }
            Self::Blocked(id, addresses, more) => {
                let addresses = addresses.iter().map(Address::as_str).collect();
                let more = *more;
                reply(id, Answer::Blocked { addresses, more })
            }
        }
    }
}

/// Charges one call to the caller.
pub(crate) fn charge(relay: &Relay, member: &Member) -> Result<(), Refusal> {
    let now = relay.clock.uptime_ms();
    relay
        .rates
        .calls
        .take(member.caller, now)
        .map_err(relay.limited())
}

/// Starts a call other than [`send`].
pub(crate) async fn start(
    relay: &Arc<Relay>,
    seat: &Seat,
    member: &Member,
    id: u32,
    call: Call<'_>,
) -> Result<Step, Refusal> {
    if !matches!(call, Call::Acknowledge { .. }) {
        charge(relay, member)?;
    }
    let store = &relay.store;
    Ok(match call {
        Call::Login(_) | Call::Send { .. } | Call::MayRegister { .. } => {
            return Err(refused(Reason::BadRequest));
        }
        Call::Ping => Step::Now(Answered::Done(id)),
        Call::Policy => Step::Now(Answered::Policy(id, relay.audit.log_days)),
        Call::Acknowledge { number } => {
            let pending = store.acknowledge(user(member)?.id, number).await;
            later(relay, id, pending, |id, ()| Answered::Done(id))
        }
        Call::Receive => {
            let inbox = Arc::new(Inbox::default());
            let account = user(member)?.id;
            seat.receive(account, Arc::clone(&inbox));
            if let Some(peers) = &relay.peers {
                peers.receives(account).await;
            }
            Step::Receive(inbox)
        }
        Call::LookUp(name) => {
            let account = store.account(name).await;
            Step::Now(look_up(
                id,
                account.map_err(|error| relay.internal(&error))?,
            ))
        }
        Call::TakePrekeys(name) => take_prekeys(relay, member, id, name, true).await?,
        Call::TakeLastResort(name) => take_prekeys(relay, member, id, name, false).await?,
        Call::PutPrekey(prekey) => return put_prekey(relay, member, id, prekey).await,
        Call::PrekeyStock => {
            let stock = store.prekey_stock(user(member)?.id).await;
            Step::Now(Answered::Stock(
                id,
                stock.map_err(|error| relay.internal(&error))?,
            ))
        }
        Call::Prekeys => {
            let list = store.prekeys(user(member)?.id).await;
            Step::Now(Answered::Prekeys(
                id,
                list.map_err(|error| relay.internal(&error))?,
            ))
        }
        Call::DropPrekeys => {
            let account = user(member)?.id;
            let now = relay.clock.uptime_ms();
            let taken = relay.rates.prekeys_put.take(member.caller, now);
            taken.map_err(relay.limited())?;
            let pending = store.drop_prekeys(account).await;
            later(relay, id, pending, |id, ()| Answered::Done(id))
        }
        Call::Generation { from, to } => advance(relay, member, id, from, to).await?,
        Call::Who { after } => {
            user(member)?;
            let after = match after {
                "" => None,
                name => Some(Name::parse(name).map_err(|_| refused(Reason::BadRequest))?),
            };
            let (names, more) = relay.hub.online(after);
            Step::Now(Answered::Online(id, names, more))
        }
        Call::SetVisible(visible) => {
            let account = user(member)?.id;
            seat.set_visible(account, visible);
            let pending = store.set_visible(account, visible).await;
            later(relay, id, pending, |id, ()| Answered::Done(id))
        }
        Call::SetBlocked { who, blocked } => set_blocked(relay, member, id, &who, blocked).await?,
        Call::Blocked { after } => {
            let account = user(member)?.id;
            let after = match after {
                "" => None,
                address => Some(Address::parse(address).map_err(|_| refused(Reason::BadRequest))?),
            };
            let kept = store.blocked(account).await;
            let kept = kept.map_err(|error| relay.internal(&error))?;
            let (addresses, more) = blocked_page(relay, &kept, after.as_ref());
            Step::Now(Answered::Blocked(id, addresses, more))
        }
        Call::DeleteAccount => {
            let account = user(member)?;
            tracing::info!(name = %account.name, "account deleted by its owner");
            let pending = store.delete_account(account.id).await;
            relay.hub.close_account(account.id, Reason::UnknownName);
            later(relay, id, pending, |id, ()| Answered::Done(id))
        }
        call @ (Call::PutBlob { .. }
        | Call::PutPart { .. }
        | Call::GetBlob { .. }
        | Call::GetPart { .. }
        | Call::EndBlob { .. }
        | Call::DeleteBlob { .. }) => return blobs::start(relay, member, id, call).await,
    })
}

/// Leaves a body in a mailbox.
pub(crate) async fn send(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    (to, message_id, kind): (Name, MessageId, Kind),
    body: &[u8],
) -> Result<Step, Refusal> {
    charge(relay, member)?;
    if body.len() > MAX_ENVELOPE {
        return Err(refused(Reason::TooLarge));
    }
    let (rates, now) = (&relay.rates, relay.clock.uptime_ms());
    rates
        .sends
        .take(member.caller, now)
        .map_err(relay.limited())?;
    match kind {
        Kind::Pairing => rates.take_pairing(member.caller, &to, now),
        Kind::First => rates.firsts.take(member.caller, now),
        Kind::Message => Ok(()),
    }
    .map_err(relay.limited())?;
    let message = NewMessage {
        to,
        sender: member.address.clone(),
        sender_key: member.sender_key().to_owned(),
        guest: member.user.is_none(),
        fingerprint: Some(Bytes(member.identity.fingerprint())),
        message_id,
        kind,
        body: Arc::from(body),
    };
    let pending = relay.store.append(message).await;
    Ok(later(relay, id, pending, |id, appended| {
        let refusal = |reason, retry_after_ms| {
            let refusal = Refusal {
                reason,
                retry_after_ms,
            };
            Answered::Refused(id, refusal)
        };
        match appended {
            Appended::Stored | Appended::Repeat => Answered::Stored(id),
            Appended::UnknownName => refusal(Reason::UnknownName, 0),
            Appended::Blocked => refusal(Reason::Blocked, 0),
            Appended::MailboxFull => refusal(Reason::MailboxFull, FULL_RETRY_MS),
            Appended::RelayFull => refusal(Reason::RelayFull, FULL_RETRY_MS),
        }
    }))
}

/// Gives prekeys of an account; with `one_time`, also one that nobody else gets, unless its owner gave too many of late.
async fn take_prekeys(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    name: Name,
    one_time: bool,
) -> Result<Step, Refusal> {
    let (rates, now) = (&relay.rates, relay.clock.uptime_ms());
    rates
        .prekeys_taken
        .take(member.caller, now)
        .map_err(relay.limited())?;
    let one_time = one_time && rates.prekeys_given.take(name.clone(), now).is_ok();
    let taker = member.sender_key().to_owned();
    let pending = relay
        .store
        .take_prekeys(name.clone(), taker, one_time)
        .await;
    let shared = Arc::clone(relay);
    Ok(later(relay, id, pending, move |id, taken| match taken {
        Taken::Bundle(bundle) => Answered::Bundle(id, bundle),
        Taken::UnknownName => Answered::Refused(id, refused(Reason::UnknownName)),
        Taken::Blocked => {
            // Nothing was given: whoever is blocked cannot use up what others are given either.
            if one_time {
                shared.rates.prekeys_given.give_back(&name);
            }
            Answered::Refused(id, refused(Reason::Blocked))
        }
        Taken::NoPrekeys => Answered::Refused(id, refused(Reason::NoPrekeys)),
    }))
}

/// Compares and sets a generation.
async fn advance(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    from: Generation,
    to: Generation,
) -> Result<Step, Refusal> {
    let account = user(member)?.id;
    // So `to` is never number 0 either.
    if to.number <= from.number {
        return Err(refused(Reason::BadRequest));
    }
    let now = relay.clock.uptime_ms();
    relay
        .rates
        .generations
        .take(member.caller, now)
        .map_err(relay.limited())?;
    let pending = relay.store.advance(account, from, to).await;
    Ok(later(relay, id, pending, |id, advanced| match advanced {
        Advanced::Done => Answered::Done(id),
        Advanced::Other(there) => Answered::Generation(id, Box::new(there)),
        Advanced::UnknownName => Answered::Refused(id, refused(Reason::UnknownName)),
    }))
}

async fn set_blocked(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    who: &Address,
    blocked: bool,
) -> Result<Step, Refusal> {
    let account = user(member)?.id;
    let now = relay.clock.uptime_ms();
    relay
        .rates
        .blocks
        .take(member.caller, now)
        .map_err(relay.limited())?;
    let sender = sender_key(relay, who);
    if !blocked {
        // Also as it was kept when its relay's name was not one of this relay's.
        let senders = vec![sender, who.as_str().to_owned()];
        let pending = relay.store.unblock(account, senders).await;
        return Ok(later(relay, id, pending, |id, ()| Answered::Done(id)));
    }
    let pending = relay.store.block(account, sender).await;
    Ok(later(relay, id, pending, |id, block| match block {
        Block::Done => Answered::Done(id),
        Block::TooMany => Answered::Refused(id, refused(Reason::QuotaFull)),
        Block::UnknownName => Answered::Refused(id, refused(Reason::UnknownName)),
    }))
}

/// Up to a page of a block list after `after`, as addresses in their order, and whether there are more. The store's own
/// order is another one: `bob` stands before `bob-2` there, and `bob@…` after `bob-2@…` here.
fn blocked_page(relay: &Relay, kept: &[String], after: Option<&Address>) -> (Vec<Address>, bool) {
    let address = |sender: &String| match (Name::parse(sender), relay.names.first()) {
        (Ok(name), Some(own)) => Some(Address::new(&name, own)),
        _ => Address::parse(sender).ok(),
    };
    let all: BTreeSet<Address> = kept.iter().filter_map(address).collect();
    let mut page: Vec<Address> = all
        .into_iter()
        .filter(|address| after.is_none_or(|after| address > after))
        .take(BLOCKED_PAGE + 1)
        .collect();
    let more = page.len() > BLOCKED_PAGE;
    page.truncate(BLOCKED_PAGE);
    (page, more)
}

async fn put_prekey(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    prekey: Prekey,
) -> Result<Step, Refusal> {
    let account = user(member)?.id;
    let now = relay.clock.uptime_ms();
    relay
        .rates
        .prekeys_put
        .take(member.caller, now)
        .map_err(relay.limited())?;
    let signed = prekey.verify(&member.identity);
    signed.map_err(|_| refused(Reason::BadRequest))?;
    let pending = relay.store.put_prekey(account, Box::new(prekey)).await;
    Ok(later(relay, id, pending, |id, put| match put {
        PutPrekey::Done => Answered::Done(id),
        PutPrekey::TooMany => Answered::Refused(id, refused(Reason::MailboxFull)),
        PutPrekey::UnknownName => Answered::Refused(id, refused(Reason::UnknownName)),
    }))
}

fn look_up(id: u32, account: Option<Account>) -> Answered {
    match account {
        Some(account) => Answered::Binding(id, Box::new(account.identity)),
        None => Answered::Refused(id, refused(Reason::UnknownName)),
    }
}

/// The account of a member; guests may not do what needs one.
pub(crate) fn user(member: &Member) -> Result<&User, Refusal> {
    member.user.as_ref().ok_or(refused(Reason::GuestsRefused))
}

/// Answers once the write is done.
pub(crate) fn later<T: Send + 'static>(
    relay: &Arc<Relay>,
    id: u32,
    pending: Pending<T>,
    answer: impl FnOnce(u32, T) -> Answered + Send + 'static,
) -> Step {
    let relay = Arc::clone(relay);
    Step::Later(Box::pin(async move {
        let outcome: Result<T, StoreError> = pending.await;
        match outcome {
            Ok(outcome) => answer(id, outcome),
            Err(error) => Answered::Refused(id, relay.refusal(&error)),
        }
    }))
}
