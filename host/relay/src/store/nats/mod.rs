//! The store in NATS JetStream, for several relay nodes over replicated servers. A node keeps nothing of its own.
//!
//! ```text
//!   stream NAME-mail, 30 days          NAME.mail.ACCOUNT.SENDER.MESSAGE-ID   message, or "gone" once acknowledged
//!   bucket NAME-book (KV_NAME-book)    account.NAME                          identity, number, visibility, or "gone"
//!                                      prekey.ACCOUNT.ID | .last             prekey, or "gone" once given
//!                                      block.ACCOUNT                         all whom the account blocks
//!                                      generation.ACCOUNT                    of the account's keys
//!                                      invitation.HASH                       uses left
//!   streams NAME-blobs, NAME-log       see `blobs.rs` and `log.rs`
//!
//!   write ── one record, compared with the last one of its subject ──▶ stream ──▶ every node follows it: view, inboxes
//! ```
//!
//! Invariant: **every change is one write of one subject, compared with what was there**, and each subject keeps its last
//! record only. So there is no state between two steps, and a repeat after a crash, a time-out or a change of leaders
//! finds what was done:
//! - a message is written only where its (mailbox, sender, id) has no record; acknowledging replaces it, in one step, by
//!   a "gone" that remembers the id for 30 days. It cannot be stored twice, nor come back. (This one write is not
//!   compared: it may be repeated, since nothing follows it);
//! - of those who take one prekey, one wins its record; the others take another prekey;
//! - a name is bound by whoever writes it first. Deleting an account writes its name first; what is left of it then
//!   belongs to nobody and is purged, by the next sweep if the node died. An invitation is charged before the account is
//!   made: a crash between them costs one use.
//!
//! Every node follows the streams from the beginning (headers only, until it has caught up) and keeps a view of what
//! waits in memory: some 440 bytes for each message that waits, 24 for each part of a blob. Deliveries come from the
//! stream, in its order, whichever node stored them, and the number of a message is its place there: the same at every
//! replica, which servers before 2.10 do not hold to after a partition. What a client may have been told by another node is
//! read after a mark: a record written through the stream that comes back once all before it has. So a message
//! acknowledged at one node is never delivered by another one later. A replica that was cut off may leave out records that
//! it had not yet; the leader is asked what lies between two that it delivers. A body is taken only from a record of its
//! subject, whatever a replica has under its number.
//!
//! Who is blocked is looked up in the view when a message comes, so that a block holds at another node once that node
//! has seen its record, some milliseconds later. A message that came meanwhile is stored.
//!
//! One pair of sender and receiver has one write on its way at a time, tried again for ten seconds while servers fail
//! over: their order holds unless one is given up. Times are the servers', so that relays' clocks do not matter. Two of
//! the trait's invariants are weaker: a write that resolves with `Unavailable` may have happened (it may be repeated as it
//! was), and writes take effect in the order in which they were queued only where they touch the same account or pair.
//!
//! Per node and not over all: connections, connections per account, and quotas by the writes that are on their way at
//! that moment. What users take of rates is told to the other nodes every two seconds, and missing there from then on:
//! over all they get one burst a node at most, and the rate in the long run. The newest receiver of an account closes the
//! ones at other nodes, and nodes tell each other whom they see ([`Peers`]), both by plain messages: if one is lost, two
//! receivers get everything, each once. A server that this node reaches, but that cannot write for seconds, may be cut
//! off from the others: the node goes to another one.

use std::hash::{BuildHasher, Hash, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use hostchat_core::wire::relay::BlobId;
use hostchat_core::wire::{Generation, IdentityClaim, Name, Prekey};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use self::copy::{Counts, check_servers, invite, to_file, to_servers};
use self::link::Link;
pub use self::link::Servers;
use self::node::Node;
pub use self::peers::Peers;
use super::{
    Account, AccountId, AccountRow, Admission, Advanced, Announced, Appended, BlobKey, BlobState,
    Block, Filter, Invitation, Invited, LogEntry, Message, NewBlob, NewInvitation, NewMessage,
    Outlet, Pending, PrekeyList, PutPart, PutPrekey, Queued, Read, Registered, State, Stock, Store,
    StoreError, StoreFuture, Swept, Taken, Totals,
};
use crate::clock::Clock;
use crate::limits::{Limits, MESSAGE_OVERHEAD, RECEIVER_BYTES, WRITE_QUEUE};
use crate::metrics::Metrics;

mod blob_copy;
mod blob_view;
mod blobs;
mod block;
mod choice;
mod copy;
mod desk;
mod feed;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod generation;
mod gifts;
mod link;
mod log;
mod node;
mod peers;
mod record;
mod stock;
mod view;

/// Writes on their way at once; more would only wait at the servers.
const LANES: usize = 64;
/// Bodies of one page that are read at once.
const READS: usize = 16;

/// How a store is opened.
pub struct Options {
    /// Where the servers are.
    pub servers: Servers,
    /// Quotas and lifetimes.
    pub limits: Limits,
    /// Uptime; wall time for registrations and invitations only.
    pub clock: Arc<dyn Clock>,
    /// Where writes and stored messages are counted.
    pub metrics: Arc<Metrics>,
    /// For how long entries of the log of who wrote to whom are kept, in milliseconds: with 0 what there is of it is
    /// deleted. `None` leaves it alone.
    pub log_ms: Option<u64>,
    /// Keeps remembered ids in memory, for a copy of the whole.
    pub remember: bool,
}

/// A write with everything that it needs.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The store in NATS JetStream.
pub struct Nats {
    node: Arc<Node>,
    peers: Arc<Peers>,
    lanes: Mutex<Option<Vec<mpsc::Sender<Work>>>>,
    /// What takes from the lanes; ends with them.
    workers: Mutex<JoinSet<()>>,
    /// What follows the streams.
    tasks: Mutex<JoinSet<()>>,
    hasher: RandomState,
    next: AtomicUsize,
}

impl Nats {
    /// Connects, makes the streams if there are none, and follows them; messages go to `outlet` as they are stored.
    ///
    /// # Errors
    /// `Unavailable`, or `Other` for a wrong configuration.
    pub async fn open(options: Options, outlet: Arc<dyn Outlet>) -> Result<Self, StoreError> {
        let link = Arc::new(Link::connect(&options).await?);
        let promise = link.promise();
        if link.is_safe_in_a_partition() {
            tracing::info!(promise, "the store is NATS JetStream");
        } else {
            tracing::warn!(promise, "the store is NATS JetStream");
        }
        let mut tasks = JoinSet::new();
        let peers = Peers::start(&link, Arc::clone(&outlet), &mut tasks).await?;
        let node = Node::start(link, options, outlet, &mut tasks).await?;
        let (mut lanes, mut workers) = (Vec::new(), JoinSet::new());
        for _ in 0..LANES {
            let (lane, mut work) = mpsc::channel::<Work>(WRITE_QUEUE / LANES);
            lanes.push(lane);
            workers.spawn(async move {
                while let Some(work) = work.recv().await {
                    work.await;
                }
            });
        }
        Ok(Self {
            node,
            peers,
            lanes: Mutex::new(Some(lanes)),
            workers: Mutex::new(workers),
            tasks: Mutex::new(tasks),
            hasher: RandomState::new(),
            next: AtomicUsize::new(0),
        })
    }

    /// How this node speaks to the others.
    #[must_use]
    pub fn peers(&self) -> Arc<Peers> {
        Arc::clone(&self.peers)
    }

    /// Queues a write behind those with the same key.
    fn ordered<T: Send + 'static, F: Future<Output = Result<T, StoreError>> + Send + 'static>(
        &self,
        key: impl Hash,
        write: impl FnOnce(Arc<Node>) -> F,
    ) -> Queued<'_, T> {
        self.queue(self.hasher.hash_one(key), write)
    }

    /// Queues a write beside the others.
    fn beside<T: Send + 'static, F: Future<Output = Result<T, StoreError>> + Send + 'static>(
        &self,
        write: impl FnOnce(Arc<Node>) -> F,
    ) -> Queued<'_, T> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.queue(next as u64, write)
    }

    #[expect(
        clippy::async_yields_async,
        reason = "the first wait is for room in the queue, the second for the servers"
    )]
    fn queue<T: Send + 'static, F: Future<Output = Result<T, StoreError>> + Send + 'static>(
        &self,
        key: u64,
        write: impl FnOnce(Arc<Node>) -> F,
    ) -> Queued<'_, T> {
        let lane = crate::lock(&self.lanes)
            .as_ref()
            .and_then(|lanes| lanes.get((key % LANES as u64) as usize).cloned());
        let write = write(Arc::clone(&self.node));
        let metrics = Arc::clone(&self.node.metrics);
        Box::pin(async move {
            let (reply, pending) = Pending::new();
            let work = async move {
                let result = write.await;
                match &result {
                    Ok(_) => metrics.writes.add(1),
                    Err(error) => {
                        metrics.failed_commits.add(1);
                        tracing::error!(%error, "a write failed");
                    }
                }
                // Whoever asked may have gone; the write stands.
                let _ = reply.send(result);
            };
            // If the lane is closed, the work is dropped and `pending` says so.
            if let Some(lane) = lane {
                let _ = lane.send(Box::pin(work)).await;
            }
            pending
        })
    }

    /// Reads the view, unless the store is closed.
    fn read<'s, T: Send + 's>(&'s self, read: impl FnOnce(&Node) -> T + Send + 's) -> Read<'s, T> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            Ok(read(&self.node))
        })
    }
}

impl Store for Nats {
    fn register(
        &self,
        name: Name,
        identity: IdentityClaim,
        admission: Admission,
        visible: bool,
    ) -> Queued<'_, Registered> {
        self.ordered(name.clone(), move |node| async move {
            node.register(&name, &identity, &admission, visible).await
        })
    }

    fn append(&self, message: NewMessage) -> Queued<'_, Appended> {
        let pair = (message.sender_key.clone(), message.to.clone());
        self.ordered(pair, move |node| async move {
            node.append(&message, None).await
        })
    }

    fn acknowledge(&self, mailbox: AccountId, number: u64) -> Queued<'_, ()> {
        self.beside(move |node| async move { node.acknowledge(mailbox, number).await })
    }

    fn put_prekey(&self, account: AccountId, prekey: Box<Prekey>) -> Queued<'_, PutPrekey> {
        self.ordered(account, move |node| async move {
            node.put_prekey(account, &prekey).await
        })
    }

    fn take_prekeys(&self, name: Name, taker: String, one_time: bool) -> Queued<'_, Taken> {
        self.beside(move |node| async move { node.take_prekeys(&name, &taker, one_time).await })
    }

    fn drop_prekeys(&self, account: AccountId) -> Queued<'_, ()> {
        self.ordered(account, move |node| async move {
            node.drop_prekeys(account).await
        })
    }

    fn advance(
        &self,
        account: AccountId,
        from: Generation,
        to: Generation,
    ) -> Queued<'_, Advanced> {
        self.ordered(account, move |node| async move {
            node.advance(account, from, to).await
        })
    }

    fn block(&self, account: AccountId, sender: String) -> Queued<'_, Block> {
        self.ordered(account, move |node| async move {
            node.block(account, &sender).await
        })
    }

    fn unblock(&self, account: AccountId, senders: Vec<String>) -> Queued<'_, ()> {
        self.ordered(account, move |node| async move {
            node.unblock(account, &senders).await
        })
    }

    fn set_visible(&self, account: AccountId, visible: bool) -> Queued<'_, ()> {
        self.ordered(account, move |node| async move {
            node.set_visible(account, visible).await
        })
    }

    fn suspend(&self, account: AccountId, suspended: bool) -> Queued<'_, ()> {
        self.ordered(account, move |node| async move {
            node.suspend(account, suspended).await
        })
    }

    fn saw(&self, account: AccountId, day: u32) -> Queued<'_, ()> {
        self.ordered(
            account,
            move |node| async move { node.saw(account, day).await },
        )
    }

    fn delete_account(&self, account: AccountId) -> Queued<'_, ()> {
        self.ordered(account, move |node| async move {
            node.delete_account(account).await
        })
    }

    fn sweep(&self) -> Queued<'_, Swept> {
        self.beside(move |node| async move { node.sweep().await })
    }

    fn probe(&self) -> Queued<'_, ()> {
        self.beside(move |node| async move { node.mail.catch_up().await })
    }

    fn account(&self, name: Name) -> Read<'_, Option<Account>> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            self.node.account(&name).await
        })
    }

    fn page(&self, mailbox: AccountId, after: u64, count: usize) -> Read<'_, Vec<Arc<Message>>> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            // Later pages follow what this node itself has shown.
            if after == 0 {
                self.node.mail.catch_up().await?;
            }
            let (mut page, mut after, mut weight) = (Vec::<Arc<Message>>::new(), after, 0);
            while page.len() < count && weight < RECEIVER_BYTES {
                let mut waiting = self.node.waiting(mailbox, after, count - page.len());
                let mut ahead = weight;
                waiting.retain(|(_, next)| {
                    let fits = ahead < RECEIVER_BYTES;
                    ahead += next.bytes as usize + MESSAGE_OVERHEAD;
                    fits
                });
                let Some((last, _)) = waiting.last() else {
                    break;
                };
                after = *last;
                let bodies = waiting
                    .into_iter()
                    .map(|(number, waiting)| self.node.message(mailbox, number, waiting));
                let mut bodies = stream::iter(bodies).buffered(READS);
                while let Some(message) = bodies.next().await {
                    // Not there any more: acknowledged or expired meanwhile.
                    page.extend(message?);
                    weight = page.iter().map(|message| message.weight()).sum();
                }
            }
            Ok(page)
        })
    }

    fn blocked(&self, account: AccountId) -> Read<'_, Vec<String>> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            // The list may have been changed at another node just now.
            self.node.book.catch_up().await?;
            let list = self.node.book().blocks(account).cloned();
            Ok(list.unwrap_or_default().senders.into_iter().collect())
        })
    }

    fn prekey_stock(&self, account: AccountId) -> Read<'_, Stock> {
        self.read(move |node| crate::lock(&node.book_view).stock(account))
    }

    fn prekeys(&self, account: AccountId) -> Read<'_, PrekeyList> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            self.node.prekeys(account).await
        })
    }

    fn accounts(&self, after: Option<Name>, count: usize) -> Read<'_, Vec<AccountRow>> {
        self.read(move |node| {
            let mut rows = crate::lock(&node.book_view).rows(after.as_ref(), count);
            rows.iter_mut().for_each(|row| node.fill(row));
            rows
        })
    }

    fn account_row(&self, name: Name) -> Read<'_, Option<AccountRow>> {
        self.read(move |node| {
            let mut row = crate::lock(&node.book_view).row(&name);
            row.iter_mut().for_each(|row| node.fill(row));
            row
        })
    }

    fn invite(&self, new: NewInvitation, most: usize) -> Queued<'_, Invited> {
        self.ordered("invite", move |node| async move {
            node.invite(&new, most).await
        })
    }

    fn invitations(&self) -> Read<'_, Vec<Invitation>> {
        self.read(|node| node.book().invitations(node.now_ms()))
    }

    fn withdraw(&self, id: String) -> Queued<'_, bool> {
        self.ordered(
            "invite",
            move |node| async move { node.withdraw(&id).await },
        )
    }

    fn log(&self, filter: Filter, count: usize) -> Read<'_, Vec<LogEntry>> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            self.node.read_log(&filter, count).await
        })
    }

    fn put_blob(&self, new: NewBlob) -> Queued<'_, Announced> {
        self.ordered((new.owner, new.blob), move |node| async move {
            node.put_blob(&new).await
        })
    }

    fn put_part(
        &self,
        owner: AccountId,
        blob: BlobId,
        index: u32,
        bytes: Arc<[u8]>,
    ) -> Queued<'_, PutPart> {
        let of = (owner, blob);
        let bytes = Bytes::from_owner(bytes);
        self.ordered(of, move |node| async move {
            node.put_part(of, index, bytes).await
        })
    }

    fn blob(&self, key: BlobKey) -> Read<'_, Option<BlobState>> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            self.node.blob(&key).await
        })
    }

    fn blob_part(&self, key: BlobKey, index: u32) -> Read<'_, Option<Vec<u8>>> {
        let open = crate::lock(&self.lanes).is_some();
        Box::pin(async move {
            if !open {
                return Err(StoreError::Closed);
            }
            let part = self.node.blob_part(&key, index).await?;
            Ok(part.map(Vec::from))
        })
    }

    fn end_blob(&self, key: BlobKey, who: String) -> Queued<'_, ()> {
        self.beside(move |node| async move { node.end_blob(&key, &who).await })
    }

    fn delete_blob(&self, owner: AccountId, blob: BlobId) -> Queued<'_, ()> {
        let of = (owner, blob);
        self.ordered(of, move |node| async move { node.delete_blob(of).await })
    }

    fn totals(&self) -> Read<'_, Totals> {
        self.read(|node| {
            let (blobs, blob_bytes) = node.blob_view().sums();
            let book = crate::lock(&node.book_view);
            Totals {
                accounts: book.count(),
                invitations: book.invitations(node.now_ms()).len() as u64,
                messages: crate::lock(&node.mail_view).sums().0,
                blobs,
                blob_bytes,
            }
        })
    }

    /// The servers' disks are not visible from here; the bytes are those of messages that wait and of blobs.
    fn state(&self) -> State {
        let waiting = crate::lock(&self.lanes).as_ref().map_or(0, |lanes| {
            let used = |lane: &mpsc::Sender<_>| lane.max_capacity() - lane.capacity();
            lanes.iter().map(used).sum()
        });
        let messages = crate::lock(&self.node.mail_view).sums().1;
        let blobs = self.node.blob_view().sums().1;
        State {
            waiting,
            disk_free: None,
            bytes: Some(messages.saturating_add(blobs)),
        }
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        drop(crate::lock(&self.lanes).take());
        let mut workers = std::mem::take(&mut *crate::lock(&self.workers));
        let mut tasks = std::mem::take(&mut *crate::lock(&self.tasks));
        Box::pin(async move {
            while workers.join_next().await.is_some() {}
            tasks.shutdown().await;
            if let Err(error) = self.node.link.client.drain().await {
                tracing::debug!(error = ?error.to_string(), "the connection to NATS ended early");
            }
        })
    }
}
