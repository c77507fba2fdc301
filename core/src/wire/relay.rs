//! Client and relay: one binary WebSocket message is one [`Request`] or one [`Event`] (SPEC §12).
//!
//! ```text
//!  client                               relay
//!    │ ◀───────────── Event::Challenge    │   on connect
//!    │ Request::Login ──────────────▶     │   signed over challenge, relay name and TLS exporter
//!    │ ◀──────────── Event::Reply(id)     │
//!    │ Request::Send, Send, Send ───▶     │   pipelined; replies in any order, matched by id
//!    │ Request::Receive ────────────▶     │
//!    │ ◀─ Event::Deliver .. Drained       │   at most WINDOW unacknowledged
//!    │ Request::Acknowledge ────────▶     │
//! ```

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::content::bounded;
use crate::crypto::label;
use crate::wire::{
    Address, Bytes, Generation, IdentityClaim, MessageId, Name, Prekey, PrekeyBundle, PrekeyRef,
    RelayName,
};

/// Names a blob: random, drawn by who leaves it.
pub type BlobId = Bytes<16>;

/// Version of the protocol between client and relay: `Challenge`, `Login`, calls. Within one version calls and answers are
/// only appended.
pub const RELAY_VERSION: u8 = 2;
/// Longest relay message, in bytes, either way; larger ones close the connection before they are read.
pub const MAX_RELAY_MESSAGE: usize = 16 * 1024;
/// Longest version of a relay's software in a `Challenge`, in bytes.
pub const MAX_SOFTWARE: usize = 64;
/// Most deliveries in flight without an acknowledgement, per connection.
pub const WINDOW: usize = 64;
/// Most names in one page of [`Answer::Online`].
pub const ONLINE_PAGE: usize = 64;
/// Most addresses in one page of [`Answer::Blocked`].
pub const BLOCKED_PAGE: usize = 64;
/// Most one-time prekeys of an account at its relay.
pub const PREKEY_STOCK: usize = 32;
/// Bytes of each part of a blob but the last, which may be shorter.
pub const BLOB_PART: usize = 8 * 1024;
/// Most readers of one blob.
pub const BLOB_READERS: usize = 64;
/// Label of the TLS 1.3 exporter value that a login is bound to (RFC 8446 §7.5); no context, 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-hostchat-1-login";
/// WebSocket subprotocol (RFC 6455 §1.9); `Challenge` has the version.
pub const SUBPROTOCOL: &str = "hostchat.1";
/// Path of the WebSocket.
pub const PATH: &str = "/hostchat";
/// Header of the answer to the upgrade: the relay's time, milliseconds since 1970, decimal (SPEC section 12).
pub const TIME_HEADER: &str = "hostchat-time";

/// One call of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request<'a> {
    /// Chosen by the client; the reply carries it.
    pub id: u32,
    /// What is asked.
    #[serde(borrow)]
    pub call: Call<'a>,
}

/// As whom a client logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Account {
    /// A registered account of this relay.
    User(Name),
    /// Registers the name for this identity if it is free, then logs in.
    Register {
        /// The name wanted.
        name: Name,
        /// Invitation, empty where registration is open.
        invitation: Vec<u8, 64>,
    },
    /// An account of another relay: may look up, take prekeys and send, and has no mailbox here.
    Guest(Address),
}

/// Proof of identity towards one relay over one TLS connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// Protocol version of the client.
    pub version: u8,
    /// As whom.
    pub account: Account,
    /// The identity; checked by the relay.
    pub identity: IdentityClaim,
    /// The relay as the client dialled it.
    pub dialled: RelayName,
    /// Ed25519 signature over [`login_items`].
    pub signature: Bytes<64>,
    /// Whether others may see this account in `who`.
    pub visible: bool,
}

/// Calls `with` with the items that a login signs: label, account name or guest address, dialled relay, challenge,
/// TLS exporter, identity.
pub fn login_items<T>(
    account: &str,
    dialled: &RelayName,
    challenge: &[u8; 32],
    exporter: &[u8; 32],
    identity: &IdentityClaim,
    with: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    with(&[
        label::LOGIN.as_bytes(),
        account.as_bytes(),
        dialled.as_str().as_bytes(),
        challenge,
        exporter,
        &identity.sign.0,
        &identity.dh.0,
    ])
}

impl Account {
    /// The text of the account that the login signature covers.
    pub fn signed_text(&self) -> &str {
        match self {
            Self::User(name) | Self::Register { name, .. } => name.as_str(),
            Self::Guest(address) => address.as_str(),
        }
    }
}

/// Why a body lies in a mailbox, for limits and expiry; the relay cannot look inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A step of a pairing: expires after ten minutes, limited per receiver.
    Pairing,
    /// A first message of somebody without a session: limited per receiver.
    First,
    /// Everything else.
    Message,
}

/// What a client may ask. Append-only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "no allocator; the encoded form is what is kept"
)]
pub enum Call<'a> {
    /// Must be the first.
    Login(Login),
    /// Leaves a prekey: one more one-time key, or the new last-resort key in place of the old.
    PutPrekey(Prekey),
    /// How many one-time prekeys are left, and how old the last-resort key is.
    PrekeyStock,
    /// The identity bound to a name of this relay.
    LookUp(Name),
    /// The identity and prekeys of a name of this relay; a one-time key is given to nobody else.
    TakePrekeys(Name),
    /// Leaves `body` in the mailbox of a name of this relay. Idempotent by (sender, `to`, `message_id`).
    Send {
        /// The receiver.
        to: Name,
        /// Drawn by the sender; a repeat is answered `Stored` and stored once.
        message_id: MessageId,
        /// For limits and expiry.
        kind: Kind,
        /// An encoded envelope.
        body: &'a [u8],
    },
    /// Starts deliveries from this account's mailbox.
    Receive,
    /// The delivery with this number is safe at the receiver and may be deleted.
    Acknowledge {
        /// `Delivery::number`.
        number: u64,
    },
    /// Accounts connected now that let themselves be seen, in order, after the given name.
    Who {
        /// Empty string: from the start.
        after: &'a str,
    },
    /// Turns this account's visibility in `who` on or off, kept by the relay.
    SetVisible(bool),
    /// Deletes this account: name, prekeys, mailbox.
    DeleteAccount,
    /// Asks for a reply and nothing else.
    Ping,
    /// What the relay keeps beyond what delivery needs.
    Policy,
    /// Takes nothing more from this address into the own mailbox, nor gives it prekeys; or does so again. Idempotent.
    SetBlocked {
        /// As in `Delivery::sender`.
        who: Address,
        /// Whether it is refused from now on.
        blocked: bool,
    },
    /// Whom the own mailbox refuses, in order, after the given address.
    Blocked {
        /// Empty string: from the start.
        after: &'a str,
    },
    /// Announces sealed bytes that are left for some readers, or asks how far they have come. Idempotent by (account, blob).
    PutBlob {
        /// Drawn by the account.
        blob: BlobId,
        /// Of all parts together, in bytes; at least 1.
        size: u64,
        /// SHA-256 of each reader's token (16 random bytes), at least one; a repeat must have the same.
        readers: Vec<Bytes<32>, BLOB_READERS>,
    },
    /// The next part of an announced blob; parts come in order from 0, and a repeat of an earlier one is answered `Stored`.
    PutPart {
        /// The blob.
        blob: BlobId,
        /// Its place: byte `index` × [`BLOB_PART`].
        index: u32,
        /// [`BLOB_PART`] bytes, or what is left of the blob.
        bytes: &'a [u8],
    },
    /// How much of a blob is there. Guests may ask as well.
    GetBlob {
        /// The blob.
        blob: BlobId,
        /// A reader's token.
        reader: Bytes<16>,
    },
    /// A part that is there.
    GetPart {
        /// The blob.
        blob: BlobId,
        /// A reader's token.
        reader: Bytes<16>,
        /// As in `PutPart`.
        index: u32,
    },
    /// This reader has everything and will not ask again; after the last one the blob is deleted. Idempotent.
    EndBlob {
        /// The blob.
        blob: BlobId,
        /// The reader's token.
        reader: Bytes<16>,
    },
    /// Deletes an own blob, whoever has read it. Idempotent.
    DeleteBlob {
        /// The blob.
        blob: BlobId,
    },
    /// Compare and set: makes `to` the account's generation if it is `from`. `Done` if it is `to` now, otherwise
    /// [`Answer::Generation`] with the pair that is there, unchanged.
    Generation {
        /// The pair expected; [`Generation::NONE`] for an account that never had one.
        from: Generation,
        /// The pair wanted.
        to: Generation,
    },
    /// As `TakePrekeys`, but without a one-time prekey.
    TakeLastResort(Name),
    /// Which own prekeys lie here: [`Answer::Prekeys`].
    Prekeys,
    /// Deletes all own one-time prekeys. Idempotent.
    DropPrekeys,
    /// Before the login, once: whether a login with `Account::Register` could succeed. `Done`, or refused as that would be.
    MayRegister {
        /// The name wanted.
        name: Name,
        /// The client has an invitation.
        invited: bool,
    },
}

/// What a relay sends. Append-only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "no allocator; the encoded form is what is kept"
)]
pub enum Event<'a> {
    /// First message of a connection.
    Challenge {
        /// Protocol version of the relay.
        version: u8,
        /// 32 random bytes.
        challenge: Bytes<32>,
        /// Version of the relay's software, for people, at most [`MAX_SOFTWARE`] bytes.
        #[serde(deserialize_with = "bounded::<MAX_SOFTWARE, _>")]
        software: &'a str,
    },
    /// Answer to the request with this id.
    Reply {
        /// The request.
        id: u32,
        /// The answer.
        #[serde(borrow)]
        answer: Answer<'a>,
    },
    /// A body from the mailbox; delivered again on a later connection until acknowledged.
    Deliver(#[serde(borrow)] Delivery<'a>),
    /// Everything that lay in the mailbox has been delivered on this connection.
    Drained,
    /// The relay closes this connection.
    Closing(Refusal),
}

/// One body on its way to its receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery<'a> {
    /// Number within this mailbox, growing.
    pub number: u64,
    /// Who left it, as the relay claims: a hint, never an authentication.
    pub sender: Address,
    /// When the relay stored it, milliseconds since 1970 by its clock.
    pub stored_at: u64,
    /// As sent.
    pub message_id: MessageId,
    /// An encoded envelope.
    pub body: &'a [u8],
    /// The fingerprint (SPEC §5.2) of the identity that the sender proved when it logged in, as the relay claims; `None` if
    /// the message was stored by a relay of version 1.
    pub fingerprint: Option<Bytes<32>>,
}

/// What a relay answers. Append-only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "no allocator; the encoded form is what is kept"
)]
pub enum Answer<'a> {
    /// Done.
    Done,
    /// The message is durable at the relay.
    Stored,
    /// Answer to `PrekeyStock`.
    PrekeyStock {
        /// One-time prekeys left.
        one_time: u16,
        /// `issued` of the last-resort key, 0 if there is none.
        last_resort_issued: u64,
        /// Id of the last-resort key, 0 if there is none.
        last_resort_id: u32,
    },
    /// Answer to `LookUp`.
    Binding(IdentityClaim),
    /// Answer to `TakePrekeys`.
    Bundle(PrekeyBundle),
    /// Answer to `Who`.
    Online {
        /// Names in order.
        #[serde(borrow)]
        names: Vec<&'a str, ONLINE_PAGE>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// Not done; nothing changed.
    Refused(Refusal),
    /// Answer to `Policy`.
    Policy {
        /// For so many days the relay keeps who wrote to whom, with sizes and times; 0: not at all.
        log_days: u16,
    },
    /// Answer to `Blocked`.
    Blocked {
        /// Addresses in order.
        #[serde(borrow)]
        addresses: Vec<&'a str, BLOCKED_PAGE>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// Answer to `PutBlob` and `GetBlob`.
    Blob {
        /// In bytes, as announced.
        size: u64,
        /// Parts that are durable; the next one has this index.
        parts: u32,
        /// Seconds until it is deleted, whoever has read it.
        expires_in: u32,
    },
    /// Answer to `GetPart`.
    Part {
        /// As put.
        bytes: &'a [u8],
    },
    /// Answer to `Generation`: not done; this pair is there.
    Generation(Generation),
    /// Answer to `Prekeys`.
    Prekeys {
        /// One-time prekeys that were not given out, by id.
        one_time: Vec<PrekeyRef, PREKEY_STOCK>,
        /// The last-resort prekey.
        last_resort: Option<PrekeyRef>,
    },
}

/// Why a relay refuses, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Milliseconds until a repeat may succeed; 0 if a repeat is useless or its time unknown.
    pub retry_after_ms: u32,
}

/// Reasons of a refusal. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Not a valid request, or not in this state.
    BadRequest,
    /// Protocol version not spoken here.
    Version,
    /// Signature, challenge, dialled name or exporter do not match.
    LoginFailed,
    /// No such account.
    UnknownName,
    /// The name belongs to another identity.
    NameTaken,
    /// Registration is closed, or the invitation is not valid.
    RegistrationClosed,
    /// Guests are not admitted, or may not do this.
    GuestsRefused,
    /// The receiver's mailbox is full.
    MailboxFull,
    /// The relay's disk or database is full.
    RelayFull,
    /// Too many requests.
    RateLimited,
    /// The account is logged in elsewhere too often, or there are too many connections.
    TooManyConnections,
    /// The owner left no prekeys.
    NoPrekeys,
    /// An error inside the relay; nothing was stored.
    Internal,
    /// The relay shuts down; try again soon.
    ShuttingDown,
    /// The body is larger than allowed.
    TooLarge,
    /// No login in time, or silent for too long.
    Timeout,
    /// The receiver takes nothing from this sender.
    Blocked,
    /// The account has as much of this as one account may have.
    QuotaFull,
    /// No such blob for this account or reader, or this part of it is not there yet.
    UnknownBlob,
    /// The relay's operator has suspended the account.
    Suspended,
}
