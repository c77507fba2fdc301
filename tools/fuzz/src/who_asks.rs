//! A client whose mailbox strangers can reach, and what it lists and chooses: forged requests (issue 12, 2.1).
//!
//! ```text
//!  acts ─▶ SmallRelay (honest home relay) ─▶ hostchat::Client: requests.rs, await_offer ─▶ Vault: table of requests
//!             ▲ accounts and guests: any claimed address, any copied identity, floods
//! ```
//!
//! Bob's client is the real one, with its vault, its software token and its decisions; only the relay is ours. Strangers log
//! in as somebody, prove an identity of their own, and write anything into an offer or a first message. They know every
//! address and identity. They do not know the number of a run of carol's before she has left it, nor hers after that except
//! under their own address.
//!
//! Invariants: carol's present offer is listed once, under her address and identity, and is the one that is chosen when the
//! user names her and after a wrong code; a stranger's never is. It goes only if she ends it, if it is answered, or by the
//! rule of the full table. What is listed came from the address that it says; under *checked* stands what the relay of the
//! address says; and nobody is dialled before the user has named somebody there.

use hostchat::agent::Unobserved;
use hostchat::model::{Asked, Request, Trust};
use hostchat::{Error, Result};
use hostchat_core::wire::{
    Address, Bytes, Envelope, EnvelopeBytes, FRAME_VERSION, FirstHeader, FrameHeader,
    IdentityClaim, MAX_FRAME, PairOffer, PairPublic, SUITE, SessionStartId, codec,
};

use crate::bob::{Bob, with_bob};
use crate::input::Input;

/// The clock of everybody: requests do not expire within a run.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;
/// Most decisions of one run: each costs a fifth of a millisecond, and what was ever found took ten.
const MAX_STEPS: usize = 16;
/// Role of who shows a code (SPEC §7.1).
const INITIATOR: u8 = 1;

/// Somebody who is logged in at bob's relay.
struct Stranger {
    at: Address,
    proved: IdentityClaim,
}

struct Run<'b> {
    bob: &'b mut Bob,
    carol: Address,
    is_home: bool,
    is_contact: bool,
    /// Of her present offer.
    sid: Option<SessionStartId>,
    /// The last offer or first message that she has left, which a relay may deliver twice.
    last: Option<Vec<u8>>,
    /// First messages of hers that wait.
    firsts: usize,
    /// Of the last offer of a stranger.
    invented: SessionStartId,
    named: bool,
    flooded: bool,
    drawn: u64,
    listed: Vec<Request>,
}

/// Interprets the input: where carol is, then a byte for each act, and its arguments.
pub fn run(bytes: &[u8]) {
    with_bob(|bob| interpret(bob, bytes));
}

/// The same where the table of offers may be full: a step takes 50 times as long there.
pub fn run_with_floods(bytes: &[u8]) {
    with_bob(|bob| {
        must(bob.prepare_floods());
        interpret(bob, bytes);
    });
}

fn interpret(bob: &mut Bob, bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut run = Run::begin(bob, input.byte());
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        run.act(&mut input);
    }
    run.name();
    run.nothing_else_moved();
}

/// What must be possible.
fn must<T>(done: Result<T>) -> T {
    assert!(done.is_ok(), "{:?}", done.err());
    done.unwrap_or_else(|_| unreachable!("asserted above"))
}

fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    let encoded: EnvelopeBytes = codec::encode_vec(envelope).unwrap_or_default();
    assert!(!encoded.is_empty(), "an envelope is too long");
    encoded.to_vec()
}

impl<'b> Run<'b> {
    fn begin(bob: &'b mut Bob, first: u8) -> Self {
        bob.clear();
        let is_home = first & 1 == 0;
        let is_contact = first & 2 != 0;
        let carol = if is_home {
            bob.people.carol_here.clone()
        } else {
            bob.people.carol_there.clone()
        };
        if is_contact {
            let mut contact = must(bob.client().vault().contact_or_new(&carol));
            contact.identity = Some(bob.people.carol);
            contact.trust = Trust::Code;
            must(bob.client().vault().save_contact(&contact));
        }
        Self {
            bob,
            carol,
            is_home,
            is_contact,
            sid: None,
            last: None,
            firsts: 0,
            invented: Bytes([0; 16]),
            named: false,
            flooded: false,
            drawn: 0,
            listed: Vec::new(),
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            0..72 => self.strangers_offer(input),
            72..100 => self.strangers_first(input),
            100..116 => self.strangers_end(input),
            116..156 => self.carols_offer(),
            156..172 => self.carols_first(),
            172..180 => self.carols_end(),
            180..200 => {
                self.name();
            }
            200..220 => self.answer(input),
            220..236 => {
                // Another run of the program, or an hour later: what relays said is forgotten.
                self.bob.client().ask_relays_anew();
            }
            236..240 => self.flood(input.flag()),
            _ => {
                if let Some(body) = self.last.clone() {
                    self.leave_of_carol(body);
                }
            }
        }
        self.deliver();
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        self.drawn += 1;
        let mut bytes = [0; N];
        for (to, from) in bytes.iter_mut().zip(self.drawn.to_le_bytes()) {
            *to = from;
        }
        bytes
    }

    /// Somebody who is no friend of carol's.
    fn stranger(&self, input: &mut Input<'_>) -> Stranger {
        let how = input.byte();
        let people = &self.bob.people;
        let proved = people.mallory[usize::from(how >> 2 & 1)];
        let at = match how & 3 {
            // A guest cannot be somebody of this relay.
            1 if !self.is_home => &self.carol,
            2 => &people.dave,
            3 => &people.eve,
            // Whose name is bound to the first identity.
            _ => {
                return Stranger {
                    at: people.mallory_here.clone(),
                    proved: people.mallory[0],
                };
            }
        };
        let at = at.clone();
        Stranger { at, proved }
    }

    /// The address and the identity that a stranger writes into a request.
    fn claims(&self, stranger: &Stranger, input: &mut Input<'_>) -> (Address, IdentityClaim) {
        let how = input.byte();
        let people = &self.bob.people;
        let from = match how & 3 {
            0 | 1 => self.carol.clone(),
            2 => stranger.at.clone(),
            _ => people.dave.clone(),
        };
        let identity = match how >> 2 & 7 {
            0..3 => people.carol,
            3 => people.mallory[1],
            4 => people.unsound,
            5 => people.bob,
            _ => stranger.proved,
        };
        (from, identity)
    }

    fn offer(&mut self, from: &Address, identity: IdentityClaim) -> PairOffer {
        PairOffer {
            sid: Bytes(self.draw()),
            share: Bytes(self.draw()),
            public: PairPublic {
                role: INITIATOR,
                suite: SUITE,
                initiator: from.clone(),
                responder: self.bob.people.bob_here.clone(),
                identity,
                ephemeral: Bytes(self.draw()),
                kem: Bytes([3; 1184]),
            },
        }
    }

    fn first(&mut self, from: &Address, identity: IdentityClaim) -> Vec<u8> {
        let header = FrameHeader {
            version: FRAME_VERSION,
            suite: SUITE,
            session: Bytes(self.draw()),
            ratchet_key: Bytes(self.draw()),
            pn: 0,
            n: 0,
            extension: heapless::Vec::new(),
        };
        let mut frame = codec::encode_vec::<_, MAX_FRAME>(&header).unwrap_or_default();
        let id: [u8; 16] = self.draw();
        for part in [&id[..], &[5; 16], &[6; 32]] {
            let _ = frame.extend_from_slice(part);
        }
        let last_resort = self.bob.relay.lock().last_resort();
        let header = FirstHeader {
            suite: SUITE,
            identity,
            sender: from.clone(),
            receiver: self.bob.people.bob_here.clone(),
            last_resort,
            one_time: None,
            ephemeral: Bytes(self.draw()),
            kem: Bytes([4; 1088]),
        };
        let frame = &frame;
        encode(&Envelope::First { header, frame })
    }

    fn leave(&self, sender: &Address, proved: &IdentityClaim, body: Vec<u8>) {
        let mut relay = self.bob.relay.lock();
        relay.leave(sender.clone(), proved, body);
    }

    fn leave_of_carol(&self, body: Vec<u8>) {
        self.leave(&self.carol, &self.bob.people.carol, body);
    }

    fn strangers_offer(&mut self, input: &mut Input<'_>) {
        let stranger = self.stranger(input);
        let (from, identity) = self.claims(&stranger, input);
        let mut offer = self.offer(&from, identity);
        match input.byte() {
            1 => offer.public.suite = 9,
            2 => offer.public.role = 2,
            3 => offer.public.responder = self.carol.clone(),
            4 => offer.sid = self.invented,
            _ => {}
        }
        self.invented = offer.sid;
        let body = encode(&Envelope::PairOffer(offer));
        self.leave(&stranger.at, &stranger.proved, body);
    }

    fn strangers_first(&mut self, input: &mut Input<'_>) {
        let stranger = self.stranger(input);
        let (from, identity) = self.claims(&stranger, input);
        let body = self.first(&from, identity);
        self.leave(&stranger.at, &stranger.proved, body);
    }

    /// Somebody says that a run is over: one of their own, or carol's, whose number a guest under her address does not know.
    fn strangers_end(&mut self, input: &mut Input<'_>) {
        let stranger = self.stranger(input);
        let hers = self.sid.filter(|_| stranger.at != self.carol);
        let sid = hers.unwrap_or(self.invented);
        let body = encode(&Envelope::PairEnded { sid, runs_left: 2 });
        self.leave(&stranger.at, &stranger.proved, body);
    }

    fn carols_offer(&mut self) {
        let (carol, identity) = (self.carol.clone(), self.bob.people.carol);
        let offer = self.offer(&carol, identity);
        self.sid = Some(offer.sid);
        let body = encode(&Envelope::PairOffer(offer));
        self.last = Some(body.clone());
        self.leave_of_carol(body);
    }

    fn carols_first(&mut self) {
        if self.is_contact {
            // It would be opened at once, for which it has to be genuine.
            return;
        }
        let (carol, identity) = (self.carol.clone(), self.bob.people.carol);
        let body = self.first(&carol, identity);
        self.firsts += 1;
        self.last = Some(body.clone());
        self.leave_of_carol(body);
    }

    fn carols_end(&mut self) {
        if let Some(sid) = self.sid.take() {
            let body = encode(&Envelope::PairEnded { sid, runs_left: 0 });
            self.leave_of_carol(body);
        }
    }

    /// More offers of people whom nobody checked than a table has room for; each of an address of its own, or four of each.
    fn flood(&mut self, many_addresses: bool) {
        if self.flooded {
            return;
        }
        let offers = self.listed.iter().filter(|r| r.asked != Asked::First);
        let rows = offers.count();
        self.flooded = self.bob.flood(many_addresses, rows);
        self.listed = must(self.bob.client().vault().requests());
    }

    /// What lies in the mailbox is taken in, and what is listed then is looked at.
    fn deliver(&mut self) {
        let Bob {
            runtime, client, ..
        } = &mut *self.bob;
        if let Some(client) = client {
            must(runtime.block_on(client.catch_up(&mut Unobserved)));
        }
        self.look();
    }

    fn is_carols(&self, request: &Request) -> bool {
        request.from == self.carol && request.identity == self.bob.people.carol
    }

    fn look(&mut self) {
        let listed = must(self.bob.client().vault().requests());
        let is_known = self.is_home || self.is_contact;
        for (at, request) in listed.iter().enumerate() {
            let Request { from, identity, .. } = request;
            assert_eq!(request.sender, *from, "in the name of somebody else");
            let truth = self.bob.people.identity_of(from);
            if request.checked {
                assert_eq!(truth, Some(*identity), "{from} is not checked");
            }
            let is_right = truth == Some(*identity);
            assert!(
                is_right || *from != self.carol || !is_known,
                "an identity that is not carol's"
            );
            assert!(
                *identity != self.bob.people.carol || *from == self.carol,
                "carol's identity under another address"
            );
            let is_offer = request.asked != Asked::First;
            let behind = &listed[at + 1..];
            assert!(
                !is_offer || !behind.iter().any(|other| other.is_like(request)),
                "two offers of one person"
            );
        }
        let hers = listed.iter().filter(|r| self.is_carols(r));
        let (firsts, offers): (Vec<&Request>, Vec<&Request>) =
            hers.partition(|r| r.asked == Asked::First);
        assert_eq!(firsts.len(), self.firsts, "carol's first messages");
        match (self.sid, offers.as_slice()) {
            (Some(sid), [offer]) => assert_eq!(offer.asked, Asked::Code { sid }, "not her last"),
            (None, []) => {}
            (Some(_), []) => {
                assert!(self.may_go(), "carol's offer is gone");
                (self.sid, self.last) = (None, None);
            }
            (sid, offers) => assert_eq!(sid.iter().len(), offers.len(), "{offers:?}"),
        }
        self.listed = listed;
        for asked in &self.bob.relay.lock().asked_elsewhere {
            assert_eq!(*asked, self.carol, "a stranger had somebody asked");
            assert!(self.named || self.is_contact, "nobody was named");
        }
    }

    /// Whether the rule of the full table takes carol's offer: nobody has checked it, and no address has more of such.
    fn may_go(&self) -> bool {
        let unchecked = self.listed.iter().filter(|r| !r.checked);
        let unchecked: Vec<&Request> = unchecked.filter(|r| r.asked != Asked::First).collect();
        let of = |sender: &Address| unchecked.iter().filter(|r| r.sender == *sender).count();
        let hers = unchecked.iter().any(|r| self.is_carols(r));
        let most = unchecked.iter().map(|r| of(&r.sender)).max();
        // The one that came last may be under her address.
        self.flooded && hers && most.is_none_or(|most| of(&self.carol) + 1 >= most)
    }

    /// A stranger moves no contact, and puts nobody on the list of whom to ask.
    fn nothing_else_moved(&mut self) {
        let (carol, identity) = (self.carol.clone(), self.bob.people.carol);
        let vault = self.bob.client().vault();
        assert_eq!(must(vault.unopened()), [], "a stranger's frame was opened");
        if let Some(contact) = must(vault.contact_at(&carol)) {
            assert_eq!((contact.identity, contact.changed), (Some(identity), None));
        }
    }

    /// The user names carol: what her relay says decides, and the newest offer of hers is chosen, as `accept` does.
    fn name(&mut self) -> Option<Request> {
        self.named = true;
        let carol = self.carol.clone();
        let Bob {
            runtime, client, ..
        } = &mut *self.bob;
        if let Some(client) = client {
            must(runtime.block_on(client.check_requests(&carol)));
        }
        self.look();
        let waiting = self.listed.iter().filter(|r| r.from == carol);
        let waiting: Vec<&Request> = waiting.collect();
        for request in &waiting {
            assert!(self.is_carols(request), "not carol's identity");
            assert!(request.checked);
        }
        let chosen = waiting.into_iter().rfind(|r| r.asked != Asked::First);
        let sid = chosen.map(|request| request.asked);
        assert_eq!(sid, self.sid.map(|sid| Asked::Code { sid }), "not chosen");
        chosen.cloned()
    }

    /// The user types a code, which is wrong, and waits for carol's next offer, while others come.
    fn answer(&mut self, input: &mut Input<'_>) {
        let Some(request) = self.name() else { return };
        // What is left of an answer when the token has made it.
        if let Asked::Code { sid } = request.asked {
            must(self.bob.client().vault().close_run(&sid));
        }
        self.sid = None;
        let how = input.byte();
        for _ in 0..how & 3 {
            self.strangers_offer(input);
        }
        if how & 4 != 0 {
            self.carols_offer();
        }
        for _ in 0..how >> 3 & 1 {
            self.strangers_offer(input);
        }
        let next = self.bob.await_offer(&request);
        match next {
            Ok(next) => {
                assert!(self.is_carols(&next), "a code for somebody else");
                let sid = self.sid.map(|sid| Asked::Code { sid });
                assert_eq!(Some(next.asked), sid, "not her next offer");
            }
            Err(Error::Interrupted) => assert_eq!(self.sid, None, "not found"),
            Err(error) => must(Err(error)),
        }
        self.look();
    }
}
