//! Every secret of a conversation, computed a second time: from what the tokens store, what they draw and what they send.

use std::collections::BTreeMap;

use hostchat_core::crypto::dh::{DhPublic, DhSecret};
use hostchat_core::crypto::hash::{Transcript, lv_cat, sha256};
use hostchat_core::crypto::kdf::Prk;
use hostchat_core::crypto::kem::{self, KemSecret};
use hostchat_core::crypto::mac::hmac_sha256;
use hostchat_core::crypto::pake::{Cpace, Role};
use hostchat_core::handshake::PrekeySecret;
use hostchat_core::wire::{
    Address, Envelope, FirstHeader, Frame, PairAnswer, PairOffer, Prekey, PrekeyBundle, PrekeyKind,
    SessionId, codec,
};
use hostchat_token::Env as _;
use hostchat_token::testing::thief::{Effort, Loot};
use rand_core::{Infallible, Rng as _, TryCryptoRng, TryRng};

use super::support::{PIN, Person, session_of};

/// Numbers of the records of one-time and last-resort prekeys, and of sessions.
const PREKEYS: core::ops::Range<u16> = 8..40;
const SESSIONS: core::ops::Range<u16> = 40..172;

/// Secrets that occurred, and what they were; longer ones in parts of 32 bytes.
#[derive(Default)]
pub(crate) struct Past(pub(crate) BTreeMap<[u8; 32], &'static str>);

impl Past {
    fn keep(&mut self, what: &'static str, secret: &[u8]) {
        let (parts, rest) = secret.as_chunks::<32>();
        assert!(rest.is_empty() && !parts.is_empty());
        for part in parts {
            self.0.entry(*part).or_insert(what);
        }
    }
}

/// The half of a session that seals.
#[derive(Clone)]
struct Sending {
    ratchet: [u8; 32],
    public: [u8; 32],
    chain: [u8; 32],
}

/// A stored session.
#[derive(Clone)]
pub(crate) struct State {
    id: SessionId,
    root: [u8; 32],
    sending: Option<Sending>,
    /// The peer's ratchet key, and the chain.
    receiving: Option<([u8; 32], [u8; 32])>,
    pub(crate) skipped: Vec<[u8; 32]>,
}

/// Takes fields off the front of a record.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().unwrap();
        self.0 = rest;
        *field
    }

    fn skip(&mut self, length: usize) {
        self.0 = &self.0[length..];
    }

    fn length(&mut self) -> usize {
        usize::from(u16::from_le_bytes(self.array()))
    }
}

impl State {
    /// Reads a session record: SPEC 13.4 behind what the token keeps for itself.
    fn of_record(record: &[u8]) -> Self {
        let mut fields = Fields(record);
        assert_eq!(fields.array::<1>(), [2]);
        fields.skip(1 + 4 + 4);
        let [origin] = fields.array();
        fields.skip([0, 16, 16, 4, 20][usize::from(origin)] + 16);
        let address = fields.length();
        fields.skip(address + 128);

        assert_eq!(fields.array::<1>(), [2]);
        let id = fields.array::<16>().into();
        let root = fields.array();
        let [active] = fields.array();
        let sending = (active == 1).then(|| Sending {
            ratchet: fields.array(),
            public: fields.array(),
            chain: fields.array(),
        });
        // n and pn, or pn alone.
        fields.skip(if active == 1 { 8 } else { 4 });
        let [active] = fields.array();
        let receiving = (active == 1).then(|| {
            let halves = (fields.array(), fields.array());
            fields.skip(4);
            halves
        });
        let prefix = fields.length();
        fields.skip(prefix);
        let count = fields.length();
        let skipped: Vec<_> = (0..count)
            .map(|_| {
                fields.skip(8 + 4);
                fields.array()
            })
            .collect();
        assert_eq!(fields.0.len(), count, "an age for each skipped key");
        Self {
            id,
            root,
            sending,
            receiving,
            skipped,
        }
    }

    /// The secrets in it.
    pub(crate) fn secrets(&self) -> Vec<[u8; 32]> {
        let mut secrets = vec![self.root];
        if let Some(sending) = &self.sending {
            secrets.extend([sending.ratchet, sending.chain]);
        }
        secrets.extend(self.receiving.map(|(_, chain)| chain));
        secrets.extend(&self.skipped);
        secrets
    }
}

/// The secrets of a stored prekey, in parts of 32 bytes.
pub(crate) fn prekey_secrets(record: &[u8]) -> [[u8; 32]; 3] {
    assert_eq!(record.len(), PrekeySecret::LEN);
    let (parts, _) = record[14..].as_chunks::<32>();
    [parts[0], parts[1], parts[2]]
}

/// Gives given bytes as its random numbers.
struct Given(Vec<u8>);

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("bytes only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("bytes only")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.split_off(self.0.len() - bytes.len()));
        Ok(())
    }
}

impl TryCryptoRng for Given {}

fn agree(own: &[u8; 32], peer: &[u8; 32]) -> [u8; 32] {
    let own = DhSecret::from_bytes(*own);
    *own.agree(&DhPublic(*peer)).unwrap().expose_bytes()
}

fn expand(prk: &Prk, label: &str) -> [u8; 32] {
    let mut out = [0; 32];
    prk.danger_expand_bytes(label.as_bytes(), &mut out).unwrap();
    out
}

/// A person, and what the thief knew of the token after its last step.
pub(crate) struct Side {
    pub(crate) person: Person,
    seed: u64,
    pub(crate) states: BTreeMap<SessionId, State>,
}

impl Side {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        Self {
            person: Person::new(name, seed),
            seed,
            states: BTreeMap::new(),
        }
    }

    pub(crate) fn loot(&self, effort: Effort) -> Loot {
        let flash = self.person.bench.flash.snapshot();
        Loot::of(flash.dump(), &PIN.wrap, effort)
    }

    /// Learns what the token stores now.
    pub(crate) fn look(&mut self) {
        let loot = self.loot(Effort::Named);
        let states = loot.contents(SESSIONS).map(State::of_record);
        self.states = states.map(|state| (state.id, state)).collect();
    }

    /// Every block of 32 bytes that the token's random number generator gave so far.
    pub(crate) fn drawn(&self) -> Vec<[u8; 32]> {
        let (mut env, mut last) = (self.person.bench.env.clone(), [0; 32]);
        env.rng().unwrap().fill_bytes(&mut last);
        let seed = self.seed.to_le_bytes();
        let block = |counter: u64| sha256(&[b"test rng", &seed, &counter.to_le_bytes()]);
        (1..)
            .map(block)
            .take_while(|block| *block != last)
            .collect()
    }

    /// Where in its draws the secret of an X25519 key is.
    fn drawn_for(&self, public: &[u8; 32]) -> (Vec<[u8; 32]>, usize) {
        let drawn = self.drawn();
        let is = |block: &[u8; 32]| DhSecret::from_bytes(*block).public().0 == *public;
        let at = drawn.iter().position(is).unwrap();
        (drawn, at)
    }

    fn identity_secret(&self) -> [u8; 32] {
        let loot = self.loot(Effort::Named);
        let record = loot.contents(2..3).next().unwrap();
        *record[33..].first_chunk().unwrap()
    }

    /// The secrets of a prekey by its public half.
    fn prekey(&self, prekey: &Prekey) -> [[u8; 32]; 3] {
        let loot = self.loot(Effort::Named);
        let mut secrets = loot.contents(PREKEYS).map(prekey_secrets);
        let found =
            secrets.find(|secrets| DhSecret::from_bytes(secrets[0]).public().0 == prekey.dh.0);
        found.unwrap()
    }

    /// Secrets of the prekeys that it has.
    pub(crate) fn prekeys(&self) -> Vec<[u8; 32]> {
        let loot = self.loot(Effort::Named);
        loot.contents(PREKEYS).flat_map(prekey_secrets).collect()
    }

    /// Seals; gives the message's key as well.
    pub(crate) fn seal(
        &mut self,
        peer: &Address,
        content: &[u8],
        past: &mut Past,
    ) -> (Vec<u8>, [u8; 32]) {
        let envelope = self.person.seal(peer, content).unwrap();
        let id = session_of(&envelope);
        let before = self.states.remove(&id).unwrap();
        self.look();
        let after = &self.states[&id];
        let sending = after.sending.as_ref().unwrap();
        past.keep("ratchet key", &sending.ratchet);
        let chain = match &before.sending {
            Some(same) if same.public == sending.public => same.chain,
            _ => {
                let (peers, _) = before.receiving.unwrap();
                let shared = agree(&sending.ratchet, &peers);
                let prk = Prk::extract(&before.root, &[&shared]);
                let root = expand(&prk, "hostchat/1 root key");
                assert_eq!(root, after.root, "the mirror steps as the token does");
                past.keep("shared secret of a step", &shared);
                past.keep("prk of a step", prk.expose_bytes());
                past.keep("root key", &before.root);
                past.keep("root key", &root);
                expand(&prk, "hostchat/1 chain key")
            }
        };
        let key = hmac_sha256(&chain, &[b"hostchat/1 message key"]);
        let next = hmac_sha256(&chain, &[b"hostchat/1 next chain key"]);
        assert_eq!(next, sending.chain, "the mirror's chain is the token's");
        past.keep("chain key", &chain);
        past.keep("chain key", &next);
        past.keep("message key", &key);
        let decoded = codec::decode::<Envelope<'_>>(&envelope).unwrap();
        let frame = Frame::parse(decoded.frame().unwrap()).unwrap();
        let mut siv = [0; 64];
        Prk::extract(&frame.message_id.0, &[&key])
            .danger_expand_bytes(b"hostchat/1 message siv", &mut siv)
            .unwrap();
        past.keep("SIV key of a message", &siv);
        (envelope, key)
    }

    /// Opens and commits, if it opens.
    pub(crate) fn read(&mut self, envelope: &[u8], past: &mut Past) -> bool {
        let read = self.person.read(envelope).is_ok();
        self.look();
        for secret in self.states.values().flat_map(State::secrets) {
            past.keep("part of a stored session", &secret);
        }
        read
    }
}

/// Pairs with a code, up to the first frame.
pub(crate) fn pair(a: &mut Side, b: &mut Side, past: &mut Past) {
    let (to_a, to_b) = (a.person.address.clone(), b.person.address.clone());
    let code = a.person.show_code(&to_b, false).unwrap();
    let (offer, _) = a.person.offer().unwrap();
    let (answer, _) = b.person.answer(&offer, code, false).unwrap();
    a.person.confirm(&answer).unwrap();
    a.look();
    let root = pairing_secrets(a, b, &offer, &answer, &code.0, past);
    assert!(
        a.states.values().any(|state| state.root == root),
        "the mirror pairs as the tokens do"
    );
    let (hello, _) = a.seal(&to_b, b"hello", past);
    assert!(b.read(&hello, past));
    let (reply, _) = b.seal(&to_a, b"got it", past);
    assert!(a.read(&reply, past));
}

/// Keeps the secrets of a pairing; gives rk0.
fn pairing_secrets(
    a: &Side,
    b: &Side,
    offer: &PairOffer,
    answer: &PairAnswer,
    code: &[u8; 6],
    past: &mut Past,
) -> [u8; 32] {
    let (drawn, at) = a.drawn_for(&offer.public.ephemeral.0);
    // In this order: sid, scalar (64 bytes), EA, KEM seed (64 bytes).
    let (scalar, kem) = (drawn[at - 2..at].concat(), drawn[at + 1..at + 3].concat());
    let ephemeral_a = drawn[at];
    let (drawn, at) = b.drawn_for(&answer.public.ephemeral.0);
    let ephemeral_b = drawn[at];
    let mut ci = Vec::new();
    let items: [&[u8]; 4] = [
        b"hostchat/1 pair ci",
        &[1],
        a.person.address.as_str().as_bytes(),
        b.person.address.as_str().as_bytes(),
    ];
    lv_cat(&items, &mut |bytes| ci.extend_from_slice(bytes));
    past.keep("CPace scalar before the reduction", &scalar);
    let (cpace, share) = Cpace::start(code, &ci, &offer.sid.0, &mut Given(scalar));
    assert_eq!(share, offer.share.0);
    let ad_a = codec::encode_vec::<_, 2000>(&offer.public).unwrap();
    let ad_b = codec::encode_vec::<_, 2000>(&answer.public).unwrap();
    let isk = cpace
        .finish(Role::Initiator, &[&ad_a], &answer.share.0, &[&ad_b])
        .unwrap();
    let agreed = [
        agree(&ephemeral_a, &answer.public.ephemeral.0),
        agree(&a.identity_secret(), &answer.public.ephemeral.0),
        agree(&b.identity_secret(), &offer.public.ephemeral.0),
    ];
    let ss = shared(&kem, &answer.public.kem.0);
    let th = Transcript::new()
        .item(b"hostchat/1 pair th")
        .item(&ci)
        .item(&offer.sid.0)
        .item(&offer.share.0)
        .item(&ad_a)
        .item(&answer.share.0)
        .item(&ad_b)
        .finish();
    let ikm = [&isk.expose_bytes()[..], &agreed.concat(), &ss];
    let prk = Prk::extract(&th, &ikm);
    past.keep("ephemeral key of a pairing", &ephemeral_a);
    past.keep("ephemeral key of a pairing", &ephemeral_b);
    past.keep("KEM seed of a pairing", &kem);
    past.keep("ISK of a pairing", isk.expose_bytes());
    past.keep("shared secrets of a pairing", &agreed.concat());
    past.keep("KEM secret of a pairing", &ss);
    past.keep("prk of a pairing", prk.expose_bytes());
    for label in ["confirm a", "confirm b", "root", "chain"] {
        let key = expand(&prk, &format!("hostchat/1 pair {label}"));
        past.keep("key of a pairing", &key);
    }
    expand(&prk, "hostchat/1 pair root")
}

fn shared(kem: &[u8], ciphertext: &[u8; kem::CIPHERTEXT_LEN]) -> [u8; 32] {
    let kem = KemSecret::from_slice(kem).unwrap();
    *kem.decapsulate(ciphertext).expose_bytes()
}

/// A begins a new session with B, who has opened its first frame and answered.
pub(crate) fn renew(a: &mut Side, b: &mut Side, past: &mut Past) {
    let (to_a, to_b) = (a.person.address.clone(), b.person.address.clone());
    let bundle = b.person.bundle(true);
    let one_time = bundle.one_time.unwrap();
    let secrets = [b.prekey(&bundle.last_resort), b.prekey(&one_time)];
    a.person.start(&to_b, &bundle, false).unwrap();
    a.look();
    let (first, _) = a.seal(&to_b, b"once more", past);
    let Envelope::First { header, .. } = codec::decode(&first).unwrap() else {
        panic!("not a first message")
    };
    let root = first_secrets(a, b, &header, &bundle, &secrets, past);
    assert_eq!(
        a.states[&session_of(&first)].root,
        root,
        "the mirror begins as the tokens do"
    );
    assert!(b.read(&first, past));
    let (answer, _) = b.seal(&to_a, b"answered", past);
    assert!(a.read(&answer, past));
}

/// Keeps the secrets of a first message; gives rk0.
fn first_secrets(
    a: &Side,
    b: &Side,
    header: &FirstHeader,
    bundle: &PrekeyBundle,
    [last_resort, one_time]: &[[[u8; 32]; 3]; 2],
    past: &mut Past,
) -> [u8; 32] {
    let (drawn, at) = a.drawn_for(&header.ephemeral.0);
    let agreed = [
        agree(&a.identity_secret(), &bundle.last_resort.dh.0),
        agree(&b.identity_secret(), &header.ephemeral.0),
        agree(&last_resort[0], &header.ephemeral.0),
        agree(&one_time[0], &header.ephemeral.0),
    ];
    let ss = shared(&one_time[1..].concat(), &header.kem.0);
    let mut th = Transcript::new()
        .item(b"hostchat/1 first th")
        .item(&codec::encode_vec::<_, 2000>(header).unwrap())
        .item(&codec::encode_vec::<_, 128>(&bundle.identity).unwrap());
    for prekey in [&bundle.last_resort, &bundle.one_time.unwrap()] {
        th = th.item_parts(&[
            &[u8::from(prekey.kind == PrekeyKind::LastResort)],
            &prekey.id.to_be_bytes(),
            &prekey.issued.to_be_bytes(),
            &prekey.dh.0,
            &prekey.kem.0,
        ]);
    }
    let prk = Prk::extract(&th.finish(), &[&agreed.concat(), &ss]);
    past.keep("ephemeral key of a first message", &drawn[at]);
    past.keep("shared secrets of a first message", &agreed.concat());
    past.keep("KEM secret of a first message", &ss);
    past.keep("prk of a first message", prk.expose_bytes());
    past.keep("used one-time prekey", &one_time.concat());
    past.keep("last-resort prekey", &last_resort.concat());
    past.keep("chain key", &expand(&prk, "hostchat/1 first chain"));
    let root = expand(&prk, "hostchat/1 first root");
    past.keep("root key", &root);
    root
}
