//! Who is calling: the checks between a connection and an account.
//!
//! The order matters: what costs nothing comes first, what touches the database last, and a name is bound to an identity
//! only after the signature over this very TLS connection was verified.

use std::sync::Arc;

use hostchat_core::wire::relay::{
    Account as Claim, Login, RELAY_VERSION, Reason, Refusal, login_items,
};
use hostchat_core::wire::{Address, Identity, Name};

use crate::clock;
use crate::config::Registration;
use crate::hub::{Network, Seat};
use crate::rates::Caller;
use crate::server::Relay;
use crate::store::{Account, AccountId, Admission, Registered};

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600_000;

/// Longest time, in milliseconds, that the first login of a day waits for its day to be kept.
const SEEN_MS: u64 = 1_000;

/// What this connection's logins are bound to.
pub(crate) struct Binding {
    /// Random, of this connection only.
    pub(crate) challenge: [u8; 32],
    /// Keying material exported from its TLS session.
    pub(crate) exporter: [u8; 32],
}

/// Somebody who proved an identity.
pub(crate) struct Member {
    /// The account, unless it is a guest.
    pub(crate) user: Option<User>,
    /// The identity proved.
    pub(crate) identity: Identity,
    /// What receivers see as the sender.
    pub(crate) address: Address,
    /// For whom limits count.
    pub(crate) caller: Caller,
}

/// A registered account.
pub(crate) struct User {
    pub(crate) id: AccountId,
    pub(crate) name: Name,
}

impl Member {
    /// For whom repeated messages are found: stays the same when the relay is dialled by another of its names.
    pub(crate) fn sender_key(&self) -> &str {
        match &self.user {
            Some(user) => user.name.as_str(),
            None => self.address.as_str(),
        }
    }
}

/// As [`Member::sender_key`], for an address that a client names.
pub(crate) fn sender_key(relay: &Relay, address: &Address) -> String {
    if relay.names.contains(&address.relay()) {
        address.name().as_str().to_owned()
    } else {
        address.as_str().to_owned()
    }
}

/// A refusal that a repeat will not change.
pub(crate) const fn refused(reason: Reason) -> Refusal {
    Refusal {
        reason,
        retry_after_ms: 0,
    }
}

/// Checks a login and seats the account.
pub(crate) async fn check(
    relay: &Arc<Relay>,
    seat: &Seat,
    network: Network,
    binding: &Binding,
    login: &Login,
) -> Result<Member, Refusal> {
    let failed = refused(Reason::LoginFailed);
    if login.version != RELAY_VERSION {
        return Err(refused(Reason::Version));
    }
    if !relay.names.contains(&login.dialled) {
        return Err(failed);
    }
    let identity = login.identity.verify().map_err(|_| failed)?;
    let signed = login_items(
        login.account.signed_text(),
        &login.dialled,
        &binding.challenge,
        &binding.exporter,
        &login.identity,
        |items| identity.verifying_key().verify(items, &login.signature.0),
    );
    signed.map_err(|_| failed)?;
    let name = match &login.account {
        Claim::Guest(address) => return guest(relay, network, identity, address),
        Claim::User(name) | Claim::Register { name, .. } => name,
    };
    let mut account = known(relay, name, &identity).await?;
    if let (None, Claim::Register { invitation, .. }) = (&account, &login.account) {
        let admission = admission(relay, invitation);
        register(relay, network, name, &identity, admission, login.visible).await?;
        account = known(relay, name, &identity).await?;
    }
    let account = account.ok_or(refused(Reason::UnknownName))?;
    let (id, visible) = (account.id, account.visible);
    let most = relay.limits.connections_per_account;
    if !seat.log_in(id, name.clone(), visible && login.visible, most) {
        let idle = relay.limits.idle_seconds.saturating_mul(1000);
        return Err(Refusal {
            reason: Reason::TooManyConnections,
            retry_after_ms: idle,
        });
    }
    // Deleted or suspended between the look and the seat: whoever does that closes the seats that are taken by then, this is
    // the rest.
    if known(relay, name, &identity).await?.map(|now| now.id) != Some(id) {
        return Err(refused(Reason::UnknownName));
    }
    see(relay, &account).await;
    Ok(Member {
        user: Some(User {
            id,
            name: name.clone(),
        }),
        identity,
        address: Address::new(name, &login.dialled),
        caller: Caller::User(id),
    })
}

fn guest(
    relay: &Relay,
    network: Network,
    identity: Identity,
    address: &Address,
) -> Result<Member, Refusal> {
    // Nobody may appear as an account of this relay without its key.
    if !relay.guests || relay.names.contains(&address.relay()) {
        return Err(refused(Reason::GuestsRefused));
    }
    Ok(Member {
        user: None,
        identity,
        address: address.clone(),
        caller: Caller::Guest(network),
    })
}

/// Keeps the day of this login, if it is the first of its day. No more exact time is kept of anybody.
async fn see(relay: &Relay, account: &Account) {
    let day = u32::try_from(relay.clock.wall_ms() / DAY_MS).unwrap_or(u32::MAX);
    if account.seen_day.is_none_or(|seen| seen < day) {
        // So that it is durable before the answer, as all else; a login is none the worse without, and does not wait long.
        let kept = async { relay.store.saw(account.id, day).await.await };
        let _ = clock::timeout(&*relay.clock, SEEN_MS, kept).await;
    }
}

/// The account of a name; refused if the name is bound to another identity, or suspended.
async fn known(
    relay: &Relay,
    name: &Name,
    identity: &Identity,
) -> Result<Option<Account>, Refusal> {
    let account = relay.store.account(name.clone()).await;
    match account.map_err(|error| relay.internal(&error))? {
        None => Ok(None),
        Some(account) if !same_keys(&account.identity, identity) => Err(refused(Reason::NameTaken)),
        // Only to its owner: others learn nothing of it.
        Some(account) if account.suspended => Err(refused(Reason::Suspended)),
        Some(account) => Ok(Some(account)),
    }
}

/// Whether somebody could register `name`, as far as everybody may know that.
pub(crate) async fn may_register(relay: &Relay, name: Name, invited: bool) -> Result<(), Refusal> {
    let open = match relay.registration {
        Registration::Open => true,
        Registration::Invitation if invited => false,
        Registration::Invitation | Registration::Closed => {
            return Err(refused(Reason::RegistrationClosed));
        }
    };
    if !open && !relay.guests {
        return Ok(());
    }
    let bound = relay.store.account(name).await;
    match bound.map_err(|error| relay.internal(&error))? {
        Some(_) => Err(refused(Reason::NameTaken)),
        None => Ok(()),
    }
}

async fn register(
    relay: &Relay,
    network: Network,
    name: &Name,
    identity: &Identity,
    admission: Admission,
    visible: bool,
) -> Result<(), Refusal> {
    if admission == Admission::Closed {
        return Err(refused(Reason::RegistrationClosed));
    }
    relay
        .rates
        .registrations
        .take(network, relay.clock.uptime_ms())
        .map_err(relay.limited())?;
    let queued = relay
        .store
        .register(name.clone(), *identity.claim(), admission, visible);
    match queued.await.await.map_err(|error| relay.refusal(&error))? {
        Registered::Account(_) => Ok(()),
        Registered::NameTaken => Err(refused(Reason::NameTaken)),
        Registered::NotInvited => Err(refused(Reason::RegistrationClosed)),
    }
}

fn admission(relay: &Relay, invitation: &[u8]) -> Admission {
    match relay.registration {
        Registration::Open => Admission::Open,
        Registration::Invitation => Admission::Invitation(invitation.to_vec()),
        Registration::Closed => Admission::Closed,
    }
}

fn same_keys(bound: &hostchat_core::wire::IdentityClaim, identity: &Identity) -> bool {
    let claim = identity.claim();
    bound.sign == claim.sign && bound.dh == claim.dh
}
