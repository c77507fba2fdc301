//! Who is connected now: counts for the limits, receivers for the writer, names for `who`.
//!
//! All of it lives in memory and is rebuilt as clients connect. A new receiver of an account takes over from the one
//! before, which is closed: otherwise two programs would each see half of a mailbox.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};

use hostchat_core::wire::Name;
use hostchat_core::wire::relay::{ONLINE_PAGE, Reason, Refusal};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::inbox::Inbox;
use crate::rates::{Rates, Spent};
use crate::store::{AccountId, Message, Outlet};

/// Most other nodes whose word is kept; more are not one cluster.
const MAX_NODES: usize = 64;

/// Where an address begins to count as another: IPv4 whole, IPv6 by its /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Network(u128);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u128::from(u32::from(v4))),
            IpAddr::V6(v6) => Self(u128::from(v6) >> 64 << 64),
        }
    }
}

/// The order to close one connection: a `watch` channel would hold five times the memory of it.
#[derive(Default)]
struct Closing {
    order: Mutex<Option<Refusal>>,
    given: Notify,
}

impl Closing {
    /// Gives the order; one that was given before is forgotten.
    fn give(&self, refusal: Refusal) {
        *crate::lock(&self.order) = Some(refusal);
        // Kept until somebody waits.
        self.given.notify_one();
    }
}

/// Everybody who is connected.
pub(crate) struct Hub {
    connections: Mutex<Connections>,
    /// Apart, since the writer looks here for every message.
    receivers: RwLock<HashMap<AccountId, Receiver>>,
    /// Whom other nodes see.
    elsewhere: Mutex<HashMap<String, Elsewhere>>,
    rates: Arc<Rates>,
    clock: Arc<dyn Clock>,
}

struct Elsewhere {
    names: BTreeSet<Name>,
    /// Looks of [`Hub::forget_silent`] since the node's last word.
    silent: u32,
}

#[derive(Default)]
struct Connections {
    next: u64,
    all: HashMap<u64, Connection>,
    per_network: HashMap<Network, usize>,
    per_account: HashMap<AccountId, usize>,
    /// Accounts that let themselves be seen, with the number of their connections that do.
    seen: BTreeMap<Name, usize>,
}

struct Connection {
    network: Network,
    closing: Arc<Closing>,
    user: Option<User>,
}

struct User {
    id: AccountId,
    name: Name,
    visible: bool,
}

struct Receiver {
    connection: u64,
    inbox: Arc<Inbox>,
}

/// One connection's place in the [`Hub`]; leaves when dropped.
pub(crate) struct Seat {
    hub: Arc<Hub>,
    number: u64,
    closing: Arc<Closing>,
}

impl Hub {
    pub(crate) fn new(rates: Arc<Rates>, clock: Arc<dyn Clock>) -> Self {
        Self {
            connections: Mutex::default(),
            receivers: RwLock::default(),
            elsewhere: Mutex::default(),
            rates,
            clock,
        }
    }

    /// Seats a connection, unless there are too many in all or from its network.
    pub(crate) fn enter(
        self: &Arc<Self>,
        network: Network,
        most: usize,
        most_per_network: usize,
    ) -> Option<Seat> {
        let mut connections = crate::lock(&self.connections);
        let here = connections.per_network.get(&network).copied().unwrap_or(0);
        if connections.all.len() >= most || here >= most_per_network {
            return None;
        }
        connections.next += 1;
        let number = connections.next;
        let closing = Arc::new(Closing::default());
        let connection = Connection {
            network,
            closing: Arc::clone(&closing),
            user: None,
        };
        connections.all.insert(number, connection);
        *connections.per_network.entry(network).or_default() += 1;
        Some(Seat {
            hub: Arc::clone(self),
            number,
            closing,
        })
    }

    /// Up to a page of names after `after`, in order, and whether there are more.
    pub(crate) fn online(&self, after: Option<Name>) -> (Vec<Name>, bool) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let connections = crate::lock(&self.connections);
        let seen = connections.seen.range((start.clone(), Bound::Unbounded));
        let mut names: BTreeSet<Name> = seen
            .take(ONLINE_PAGE + 1)
            .map(|(name, _)| name.clone())
            .collect();
        drop(connections);
        for node in crate::lock(&self.elsewhere).values() {
            let seen = node.names.range((start.clone(), Bound::Unbounded));
            names.extend(seen.take(ONLINE_PAGE + 1).cloned());
        }
        let more = names.len() > ONLINE_PAGE;
        (names.into_iter().take(ONLINE_PAGE).collect(), more)
    }

    /// All who are connected here and let themselves be seen.
    pub(crate) fn seen_here(&self) -> Vec<Name> {
        crate::lock(&self.connections)
            .seen
            .keys()
            .cloned()
            .collect()
    }

    /// Forgets nodes that have said nothing since the last `most` calls.
    pub(crate) fn forget_silent(&self, most: u32) {
        crate::lock(&self.elsewhere).retain(|_, node| {
            node.silent += 1;
            node.silent <= most
        });
    }

    /// How many connections there are, and how many of them have logged in with an account.
    pub(crate) fn count(&self) -> (usize, usize) {
        let connections = crate::lock(&self.connections);
        let logged_in = connections.per_account.values().sum();
        (connections.all.len(), logged_in)
    }

    /// How many connections an account has.
    pub(crate) fn connections_of(&self, id: AccountId) -> usize {
        let connections = crate::lock(&self.connections);
        connections.per_account.get(&id).copied().unwrap_or(0)
    }

    /// Closes every connection of an account that was deleted or suspended, each once what it asked is answered.
    pub(crate) fn close_account(&self, id: AccountId, reason: Reason) {
        let connections = crate::lock(&self.connections);
        for number in connections.of(id) {
            if let Some(connection) = connections.all.get(&number) {
                connection.closing.give(Refusal {
                    reason,
                    retry_after_ms: 0,
                });
            }
        }
    }

    /// Closes every connection with `refusal`.
    pub(crate) fn close_all(&self, refusal: Refusal) {
        for connection in crate::lock(&self.connections).all.values() {
            connection.closing.give(refusal);
        }
    }

    /// Closes a connection whose account has a newer receiver.
    fn close_receiver(&self, number: u64) {
        let connections = crate::lock(&self.connections);
        if let Some(connection) = connections.all.get(&number) {
            connection.closing.give(Refusal {
                reason: Reason::TooManyConnections,
                retry_after_ms: 0,
            });
        }
    }

    fn set_visible(connections: &mut Connections, number: u64, visible: bool) {
        let Some(user) = connections
            .all
            .get_mut(&number)
            .and_then(|c| c.user.as_mut())
        else {
            return;
        };
        if user.visible == visible {
            return;
        }
        user.visible = visible;
        let name = user.name.clone();
        let count = connections.seen.entry(name.clone()).or_default();
        if visible {
            *count += 1;
        } else {
            *count = count.saturating_sub(1);
        }
        if *count == 0 {
            connections.seen.remove(&name);
        }
    }

    fn receivers(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<AccountId, Receiver>> {
        self.receivers
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Outlet for Hub {
    fn stored(&self, mailbox: AccountId, message: Arc<Message>) {
        let receivers = self
            .receivers
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(receiver) = receivers.get(&mailbox) {
            receiver.inbox.push(message);
        }
    }

    fn deleted(&self, account: AccountId) {
        self.close_account(account, Reason::UnknownName);
    }

    fn suspended(&self, account: AccountId) {
        self.close_account(account, Reason::Suspended);
    }

    fn taken_over(&self, account: AccountId) {
        let before = self.receivers().remove(&account);
        if let Some(before) = before {
            self.close_receiver(before.connection);
        }
    }

    fn spent_elsewhere(&self, spent: Spent) {
        self.rates.charge(spent, self.clock.uptime_ms());
    }

    fn seen_elsewhere(&self, node: &str, names: Vec<Name>) {
        let mut elsewhere = crate::lock(&self.elsewhere);
        if names.is_empty() {
            elsewhere.remove(node);
        } else if elsewhere.len() < MAX_NODES || elsewhere.contains_key(node) {
            let names = names.into_iter().collect();
            elsewhere.insert(node.to_owned(), Elsewhere { names, silent: 0 });
        }
    }
}

impl Seat {
    /// Completes with the order to close; for one task, which may stop waiting and come back.
    pub(crate) async fn ordered_to_close(&self) -> Refusal {
        loop {
            let order = *crate::lock(&self.closing.order);
            if let Some(refusal) = order {
                return refusal;
            }
            self.closing.given.notified().await;
        }
    }

    /// Says who sits here, unless the account has too many connections.
    pub(crate) fn log_in(&self, id: AccountId, name: Name, visible: bool, most: usize) -> bool {
        let mut connections = crate::lock(&self.hub.connections);
        let here = connections.per_account.entry(id).or_default();
        if *here >= most {
            return false;
        }
        *here += 1;
        if let Some(connection) = connections.all.get_mut(&self.number) {
            connection.user = Some(User {
                id,
                name,
                visible: false,
            });
        }
        Hub::set_visible(&mut connections, self.number, visible);
        true
    }

    /// Shows or hides every connection of the account.
    pub(crate) fn set_visible(&self, id: AccountId, visible: bool) {
        let mut connections = crate::lock(&self.hub.connections);
        for number in connections.of(id) {
            Hub::set_visible(&mut connections, number, visible);
        }
    }

    /// Becomes the receiver of the account; the one before is closed.
    pub(crate) fn receive(&self, id: AccountId, inbox: Arc<Inbox>) {
        let receiver = Receiver {
            connection: self.number,
            inbox,
        };
        let before = self.hub.receivers().insert(id, receiver);
        let Some(before) = before.filter(|r| r.connection != self.number) else {
            return;
        };
        self.hub.close_receiver(before.connection);
    }
}

impl Connections {
    fn of(&self, id: AccountId) -> Vec<u64> {
        let of_account = |c: &Connection| c.user.as_ref().is_some_and(|user| user.id == id);
        let own = self.all.iter().filter(|(_, c)| of_account(c));
        own.map(|(number, _)| *number).collect()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connections = crate::lock(&self.hub.connections);
        Hub::set_visible(&mut connections, self.number, false);
        let Some(connection) = connections.all.remove(&self.number) else {
            return;
        };
        leave(&mut connections.per_network, &connection.network);
        if let Some(user) = connection.user {
            leave(&mut connections.per_account, &user.id);
            drop(connections);
            let mut receivers = self.hub.receivers();
            if receivers
                .get(&user.id)
                .is_some_and(|r| r.connection == self.number)
            {
                receivers.remove(&user.id);
            }
        }
    }
}

fn leave<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
