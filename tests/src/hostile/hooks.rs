//! Where the adversary stands: between what arrives and what is kept, and between what is asked and what is answered.

use hostchat_core::wire::relay::{Event, Kind, MAX_RELAY_MESSAGE};
use hostchat_core::wire::{Address, Bytes, IdentityClaim, MessageId, Name, PrekeyBundle, codec};

/// A body on its way to a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The mailbox.
    pub to: Name,
    /// Who the receiver is told has sent it.
    pub sender: Address,
    /// As the receiver is told.
    pub message_id: MessageId,
    /// As the sender said.
    pub kind: Kind,
    /// An encoded envelope, if it is honest.
    pub body: Vec<u8>,
    /// Of the identity that the sender proved, as the receiver is told.
    pub fingerprint: Option<Bytes<32>>,
}

/// What a client asked, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// `Login`.
    Login,
    /// `PutPrekey`.
    PutPrekey,
    /// `PrekeyStock`.
    PrekeyStock,
    /// `LookUp`.
    LookUp,
    /// `TakePrekeys`.
    TakePrekeys,
    /// `Send`.
    Send,
    /// `Receive`.
    Receive,
    /// `Acknowledge`.
    Acknowledge,
    /// `Who`.
    Who,
    /// `SetVisible`.
    SetVisible,
    /// `DeleteAccount`.
    DeleteAccount,
    /// `Ping`.
    Ping,
    /// `Policy`.
    Policy,
    /// `SetBlocked`.
    SetBlocked,
    /// `Blocked`.
    Blocked,
    /// `PutBlob`.
    PutBlob,
    /// `PutPart`.
    PutPart,
    /// `GetBlob`.
    GetBlob,
    /// `GetPart`.
    GetPart,
    /// `EndBlob`.
    EndBlob,
    /// `DeleteBlob`.
    DeleteBlob,
    /// `Generation`.
    Generation,
    /// `TakeLastResort`.
    TakeLastResort,
    /// `Prekeys`.
    Prekeys,
    /// `DropPrekeys`.
    DropPrekeys,
    /// `MayRegister`.
    MayRegister,
}

/// An answer that is about to leave.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Who asked; `None` before the login.
    pub account: Option<Address>,
    /// What was asked.
    pub call: Call,
    /// The id of the request.
    pub id: u32,
    /// The encoded event that an honest relay sends.
    pub encoded: Vec<u8>,
}

/// What is put on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A binary WebSocket message, as the protocol wants it.
    Binary(Vec<u8>),
    /// A text message, which no relay sends.
    Text(String),
    /// The connection ends at once.
    Cut,
}

/// One decision of the adversary.
pub type Hook<In, Out> = Box<dyn FnMut(In) -> Out + Send>;

/// All decisions of the adversary; the default is honest.
///
/// The hooks run while the relay's state is locked: they decide, and call nothing of the relay.
pub struct Adversary {
    /// What is left in which mailbox instead of this mail.
    pub mail: Hook<Mail, Vec<Mail>>,
    /// What a look-up of a name shows.
    pub binding: Hook<(Name, Option<IdentityClaim>), Option<IdentityClaim>>,
    /// What a sender gets as prekeys of a name.
    pub bundle: Hook<(Name, Option<PrekeyBundle>), Option<PrekeyBundle>>,
    /// What is put on the connection in place of an answer.
    pub reply: Hook<Outgoing, Vec<Frame>>,
    /// The first thing on a new connection: gets the honest challenge.
    pub challenge: Hook<Vec<u8>, Vec<Frame>>,
    /// Whether acknowledged mail is deleted.
    pub deletes: bool,
}

impl Default for Adversary {
    fn default() -> Self {
        Self {
            mail: Box::new(|mail| vec![mail]),
            binding: Box::new(|(_, binding)| binding),
            bundle: Box::new(|(_, bundle)| bundle),
            reply: Box::new(|answer| vec![Frame::Binary(answer.encoded)]),
            challenge: Box::new(|challenge| vec![Frame::Binary(challenge)]),
            deletes: true,
        }
    }
}

/// Encodes an event as it travels.
///
/// # Panics
/// If it is longer than [`MAX_RELAY_MESSAGE`].
pub fn event(event: &Event<'_>) -> Vec<u8> {
    codec::encode_vec::<_, MAX_RELAY_MESSAGE>(event)
        .expect("an event fits")
        .to_vec()
}
