//! Bytes that anybody can make who reads what passes the relay: no key is needed for them.

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{
    Bytes, Envelope, EnvelopeBytes, FirstHeader, Frame, MAX_FRAME, SUITE, codec,
};

use super::{Mail, World};

/// How a frame is forged, from a genuine one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Its header, with another body.
    BadTag,
    /// The same, with a number far ahead in its chain.
    FarAhead,
    /// The same, in a session that does not exist.
    UnknownSession,
    /// A first message under the identity of the sender, with a body that no key opens.
    First,
    /// The same with an invented header, for prekeys that lie at the relay and that the receiver has.
    Invented,
}

impl World {
    /// Leaves a forged frame in somebody's mailbox, as if `from` had sent it. `false` if `from` never sent a frame, or for
    /// [`Forgery::First`] no first message, from which it could be made.
    ///
    /// # Panics
    /// If the frame cannot be encoded.
    pub fn forge(&mut self, to: &str, from: &str, how: Forgery) -> bool {
        let sent = self.relay().sent(from, to);
        let genuine = sent.iter().rev().find(|mail| {
            let envelope = codec::decode::<Envelope<'_>>(&mail.body);
            match how {
                Forgery::First => matches!(envelope, Ok(Envelope::First { .. })),
                _ => envelope.is_ok_and(|envelope| envelope.frame().is_some()),
            }
        });
        let Some(genuine) = genuine else {
            return false;
        };
        let Ok(envelope) = codec::decode::<Envelope<'_>>(&genuine.body) else {
            return false;
        };
        let Some(Ok(frame)) = envelope.frame().map(Frame::parse) else {
            return false;
        };
        let mut header = frame.header.clone();
        match how {
            Forgery::BadTag => {}
            Forgery::FarAhead => header.n += 5000,
            Forgery::UnknownSession | Forgery::First | Forgery::Invented => {
                header.session = Bytes(self.bytes());
            }
        }
        let message_id = Bytes(self.bytes());
        let mut forged: heapless::Vec<u8, MAX_FRAME> =
            codec::encode_vec(&header).expect("a header");
        for part in [&message_id.0, &self.bytes::<16>(), frame.ciphertext] {
            forged.extend_from_slice(part).expect("a short frame");
        }
        let header = match (how, envelope) {
            (Forgery::First, Envelope::First { header, .. }) => Some(header),
            (Forgery::Invented, _) => Some(self.invented(to, from)),
            _ => None,
        };
        let envelope = match header {
            Some(header) => Envelope::First {
                header,
                frame: &forged,
            },
            None => Envelope::Message { frame: &forged },
        };
        let body: EnvelopeBytes = codec::encode_vec(&envelope).expect("an envelope");
        let mail = Mail {
            sender: Self::address(from),
            message_id,
            kind: Kind::Message,
            stored_at: self.now_ms(),
            body: body.to_vec(),
            // The relay is in it, and does not say who has logged in.
            fingerprint: None,
        };
        self.relay().leave(to, mail);
        true
    }

    /// The header of a first message that `from` never wrote; no prekey is taken for it.
    fn invented(&mut self, to: &str, from: &str) -> FirstHeader {
        let (identity, _, _) = self.relay().public(from);
        let (_, last_resort, one_time) = self.relay().public(to);
        FirstHeader {
            suite: SUITE,
            identity,
            sender: Self::address(from),
            receiver: Self::address(to),
            last_resort,
            one_time,
            ephemeral: Bytes(self.bytes()),
            kem: Bytes(self.bytes()),
        }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.draw(u64::MAX).to_le_bytes());
        }
        bytes
    }
}
