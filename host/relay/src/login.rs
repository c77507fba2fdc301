//! Who is calling: the checks between a connection and an account.
//!
//! The order matters: what costs nothing comes first, what touches the database last, and a name is bound to an identity
//! only after the signature over this very TLS connection was verified.

use std::sync::Arc;

use hostchat_core::wire::relay::{
    Account as Claim, Login, RELAY_VERSION, Reason, Refusal, login_items,
};
use hostchat_core::wire::{Address, Identity, Name};

use crate::config::Registration;
use crate::hub::{Network, Seat};
use crate::rates::Caller;
use crate::server::Relay;
use crate::store::{AccountId, Admission, Registered};

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
    let (id, name, visible) = match &login.account {
        Claim::Guest(address) => return guest(relay, network, identity, address),
        Claim::User(name) => {
            let (id, visible) = known(relay, name, &identity)
                .await?
                .ok_or(refused(Reason::UnknownName))?;
            (id, name, visible)
        }
        Claim::Register { name, invitation } => {
            let admission = admission(relay, invitation);
            register(relay, network, name, &identity, admission, login.visible).await?
        }
    };
    let most = relay.limits.connections_per_account;
    if !seat.log_in(id, name.clone(), visible && login.visible, most) {
        let idle = relay.limits.idle_seconds.saturating_mul(1000);
        return Err(Refusal {
            reason: Reason::TooManyConnections,
            retry_after_ms: idle,
        });
    }
    // Deleted between the look and the seat: whoever deletes closes the seats that are taken by then, this is the rest.
    if known(relay, name, &identity).await?.map(|(id, _)| id) != Some(id) {
        return Err(refused(Reason::UnknownName));
    }
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

/// The account of a name and whether its owner lets it be seen; refused if the name is bound to another identity.
async fn known(
    relay: &Relay,
    name: &Name,
    identity: &Identity,
) -> Result<Option<(AccountId, bool)>, Refusal> {
    let account = relay.store.account(name.clone()).await;
    match account.map_err(|error| relay.internal(&error))? {
        None => Ok(None),
        Some(account) if same_keys(&account.identity, identity) => {
            Ok(Some((account.id, account.visible)))
        }
        Some(_) => Err(refused(Reason::NameTaken)),
    }
}

async fn register<'n>(
    relay: &Relay,
    network: Network,
    name: &'n Name,
    identity: &Identity,
    admission: Admission,
    visible: bool,
) -> Result<(AccountId, &'n Name, bool), Refusal> {
    if let Some((id, visible)) = known(relay, name, identity).await? {
        return Ok((id, name, visible));
    }
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
        Registered::Account(id) => Ok((id, name, visible)),
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
