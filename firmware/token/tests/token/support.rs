//! Two people with a token each, and what they say to them.

use alloc::format;
use alloc::vec::Vec;

use hostchat_core::icd::{
    Command, ContactInfo, Generations, OpenedKind, Reply, SessionInfo, Status, TokenError,
};
use hostchat_core::wire::{
    Address, Bytes, Envelope, Frame, Generation, IdentityClaim, MessageId, PairAnswer, PairOffer,
    Prekey, PrekeyBundle, PrekeyKind, PrekeyRef, SessionId, codec,
};
use hostchat_token::testing::{Bench, RamFlash, Refusal, Silence, TestEnv, TestPin};

/// The host's clock, seconds since 1970.
pub(crate) const TODAY: u64 = 1_800_000_000;
pub(crate) const DAY: u64 = 24 * 60 * 60;
pub(crate) const PIN: TestPin = TestPin {
    prs: [1; 32],
    wrap: [2; 32],
};

/// An unlocked token and its address.
pub(crate) struct Person {
    pub(crate) bench: Bench,
    pub(crate) address: Address,
}

/// What an open showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) kind: OpenedKind,
    pub(crate) hash: Bytes<32>,
    pub(crate) peer: Address,
    pub(crate) identity: IdentityClaim,
    pub(crate) verified: bool,
    pub(crate) message_id: MessageId,
    pub(crate) missing: u32,
    pub(crate) reply_due: bool,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn failed<T>(error: TokenError) -> Result<T, Refusal> {
    Err(Refusal::Failed(error))
}

impl Person {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        Self::on(name, RamFlash::new(40), seed)
    }

    pub(crate) fn on(name: &str, flash: RamFlash, seed: u64) -> Self {
        let mut bench = Bench::new(flash, TestEnv::new(seed));
        bench.init(PIN).unwrap();
        Self {
            bench,
            address: address(name),
        }
    }

    /// A copy of this token after a power cycle, unlocked.
    pub(crate) fn fork(&self) -> Self {
        let mut bench = self.bench.fork();
        bench.unlock(PIN).unwrap();
        Self {
            bench,
            address: self.address.clone(),
        }
    }

    /// Turns the power off and on, and unlocks.
    pub(crate) fn restart(&mut self) {
        assert!(self.bench.power_cycle());
        self.bench.unlock(PIN).unwrap();
    }

    pub(crate) fn identity(&mut self) -> IdentityClaim {
        match self.bench.call(&Command::Identity).unwrap() {
            Reply::Identity(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn status(&mut self) -> Status {
        match self.bench.call(&Command::Status).unwrap() {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask<T>(
        &mut self,
        command: &Command<'_>,
        take: impl FnOnce(Reply<'_>) -> Option<T>,
    ) -> Result<T, Refusal> {
        match self.bench.call(command) {
            Ok(Reply::Failed(error)) => Err(Refusal::Failed(error)),
            Ok(reply) => take(reply).ok_or(Refusal::Silence(Silence::Nonsense)),
            Err(silence) => Err(Refusal::Silence(silence)),
        }
    }

    pub(crate) fn show_code(
        &mut self,
        peer: &Address,
        accept_changed: bool,
    ) -> Result<Bytes<6>, Refusal> {
        let command = Command::PairBegin {
            own: self.address.clone(),
            peer: peer.clone(),
            accept_changed,
        };
        self.ask(&command, |reply| match reply {
            Reply::Code(code) => Some(code),
            _ => None,
        })
    }

    pub(crate) fn offer(&mut self) -> Result<(PairOffer, u8), Refusal> {
        self.ask(&Command::PairOffer, |reply| match reply {
            Reply::Offered(offered) => Some((offered.offer, offered.runs_left)),
            _ => None,
        })
    }

    pub(crate) fn answer(
        &mut self,
        offer: &PairOffer,
        code: Bytes<6>,
        accept_changed: bool,
    ) -> Result<(PairAnswer, u8), Refusal> {
        let command = Command::PairAnswer {
            own: self.address.clone(),
            offer: offer.clone(),
            code,
            accept_changed,
        };
        self.ask(&command, |reply| match reply {
            Reply::Answered(answered) => Some((answered.answer, answered.answers_left)),
            _ => None,
        })
    }

    pub(crate) fn confirm(
        &mut self,
        answer: &PairAnswer,
    ) -> Result<(IdentityClaim, SessionId), Refusal> {
        self.ask(
            &Command::PairConfirm {
                answer: answer.clone(),
            },
            established,
        )
    }

    pub(crate) fn prekey(&mut self, kind: PrekeyKind, now: u64) -> Result<Prekey, Refusal> {
        self.ask(&Command::NewPrekey { kind, now }, |reply| match reply {
            Reply::Prekey(prekey) => Some(prekey),
            _ => None,
        })
    }

    pub(crate) fn bundle(&mut self, one_time: bool) -> PrekeyBundle {
        PrekeyBundle {
            identity: self.identity(),
            last_resort: self.prekey(PrekeyKind::LastResort, TODAY).unwrap(),
            one_time: one_time.then(|| self.prekey(PrekeyKind::OneTime, TODAY).unwrap()),
        }
    }

    pub(crate) fn start(
        &mut self,
        peer: &Address,
        bundle: &PrekeyBundle,
        accept_changed: bool,
    ) -> Result<(IdentityClaim, SessionId), Refusal> {
        let command = Command::Start {
            own: self.address.clone(),
            peer: peer.clone(),
            bundle: bundle.clone(),
            now: TODAY,
            accept_changed,
        };
        self.ask(&command, established)
    }

    pub(crate) fn seal(&mut self, peer: &Address, content: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.ask(
            &Command::Seal {
                peer: peer.clone(),
                content,
            },
            |reply| match reply {
                Reply::Sealed { envelope, .. } => Some(envelope.to_vec()),
                _ => None,
            },
        )
    }

    pub(crate) fn open(&mut self, envelope: &[u8], accept_changed: bool) -> Result<Read, Refusal> {
        let command = Command::Open {
            own: self.address.clone(),
            envelope,
            accept_changed,
        };
        self.ask(&command, |reply| match reply {
            Reply::Opened(opened) => Some(Read {
                kind: opened.kind,
                hash: opened.hash,
                peer: opened.peer,
                identity: opened.identity,
                verified: opened.verified,
                message_id: opened.message_id,
                missing: opened.missing,
                reply_due: opened.reply_due,
                content: opened.content.to_vec(),
            }),
            _ => None,
        })
    }

    pub(crate) fn commit(&mut self, hash: Bytes<32>) -> Result<(), Refusal> {
        self.bench.done(&Command::Commit { hash })
    }

    /// Opens and commits.
    pub(crate) fn read(&mut self, envelope: &[u8]) -> Result<Read, Refusal> {
        let read = self.open(envelope, false)?;
        self.commit(read.hash)?;
        Ok(read)
    }

    pub(crate) fn generations(&mut self) -> Generations {
        let taken = self.ask(&Command::Generations, |reply| match reply {
            Reply::Generations(generations) => Some(generations),
            _ => None,
        });
        taken.unwrap()
    }

    pub(crate) fn adopt(&mut self, number: u64, supersede: bool) {
        let current = generation(number);
        let adopt = Command::AdoptGeneration { current, supersede };
        self.bench.done(&adopt).unwrap();
    }

    /// One-time and last-resort prekeys.
    pub(crate) fn prekeys(&mut self) -> (Vec<PrekeyRef>, Vec<PrekeyRef>) {
        let taken = self.ask(&Command::Prekeys, |reply| match reply {
            Reply::Prekeys {
                one_time,
                last_resort,
            } => Some((one_time.to_vec(), last_resort.to_vec())),
            _ => None,
        });
        taken.unwrap()
    }

    pub(crate) fn sessions(&mut self, peer: &Address) -> Vec<SessionInfo> {
        let command = Command::Sessions { peer: peer.clone() };
        let taken = self.ask(&command, |reply| match reply {
            Reply::Sessions(sessions) => Some(sessions.to_vec()),
            _ => None,
        });
        taken.unwrap()
    }

    /// The session that the next seal for a contact takes.
    pub(crate) fn current(&mut self, peer: &Address) -> Option<SessionId> {
        let sessions = self.sessions(peer);
        let mut current = sessions.iter().filter(|session| session.current);
        let first = current.next().map(|session| session.session);
        assert!(current.next().is_none());
        first
    }

    /// The contact of a session.
    pub(crate) fn find(&mut self, session: SessionId) -> Option<ContactInfo> {
        let taken = self.ask(&Command::FindContact { session }, |reply| match reply {
            Reply::Contact(contact) => Some(contact),
            _ => None,
        });
        taken.unwrap()
    }

    pub(crate) fn contacts(&mut self) -> Vec<(Address, bool, u8)> {
        let mut contacts = Vec::new();
        loop {
            let after = contacts
                .last()
                .map(|(address, _, _): &(Address, bool, u8)| address.clone());
            let next = self.ask(&Command::NextContact { after }, |reply| match reply {
                Reply::Contact(contact) => {
                    Some(contact.map(|c| (c.address, c.verified, c.sessions)))
                }
                _ => None,
            });
            match next.unwrap() {
                Some(contact) => contacts.push(contact),
                None => return contacts,
            }
        }
    }
}

fn established(reply: Reply<'_>) -> Option<(IdentityClaim, SessionId)> {
    match reply {
        Reply::Established { peer, session } => Some((peer, session)),
        _ => None,
    }
}

/// A generation of this number.
pub(crate) fn generation(number: u64) -> Generation {
    let mut random = Bytes([0x5A; 16]);
    random.0[0] = number as u8;
    Generation { number, random }
}

/// The session of an envelope's frame.
pub(crate) fn session_of(envelope: &[u8]) -> SessionId {
    let envelope = codec::decode::<Envelope<'_>>(envelope).unwrap();
    Frame::parse(envelope.frame().unwrap())
        .unwrap()
        .header
        .session
}

/// A begins a session with B; gives its first frame.
pub(crate) fn begin(a: &mut Person, b: &mut Person, one_time: bool, content: &[u8]) -> Vec<u8> {
    let bundle = b.bundle(one_time);
    a.start(&b.address, &bundle, false).unwrap();
    a.seal(&b.address, content).unwrap()
}

pub(crate) fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@relay.example:7443")).unwrap()
}

/// Alice and Bob, who do not know each other.
pub(crate) fn two() -> (Person, Person) {
    (Person::new("alice", 1), Person::new("bob", 2))
}

/// Pairs two people with a code; the first message is on its way to the responder.
pub(crate) fn pair_up_to_message_3(a: &mut Person, b: &mut Person) -> Vec<u8> {
    let code = a.show_code(&b.address, false).unwrap();
    let (offer, _) = a.offer().unwrap();
    let (answer, _) = b.answer(&offer, code, false).unwrap();
    a.confirm(&answer).unwrap();
    a.seal(&b.address, b"hello").unwrap()
}

/// Alice and Bob, paired with a code; both have read something.
pub(crate) fn paired() -> (Person, Person) {
    let (mut a, mut b) = two();
    let hello = pair_up_to_message_3(&mut a, &mut b);
    b.read(&hello).unwrap();
    exchange(&mut b, &mut a, b"got it");
    (a, b)
}

/// One message from one to the other.
pub(crate) fn exchange(from: &mut Person, to: &mut Person, content: &[u8]) -> Read {
    let envelope = from.seal(&to.address, content).unwrap();
    let read = to.read(&envelope).unwrap();
    assert_eq!(read.content, content);
    assert_eq!(read.peer, from.address);
    read
}
