//! An attacker's own implementation of the handshakes: it claims whom it likes, and puts whatever it has in the place of a
//! secret that it lacks.

use hostchat_core::crypto::dh::{DhPublic, DhSecret};
use hostchat_core::crypto::hash::Transcript;
use hostchat_core::crypto::kdf::Prk;
use hostchat_core::crypto::pake::{Cpace, Role};
use hostchat_core::crypto::sign::SigningKey;
use hostchat_core::crypto::{kem, label, mac};
use hostchat_core::handshake::{Code, IdentityKeys};
use hostchat_core::ratchet::Session;
use hostchat_core::wire::{
    Address, Bytes, Confirm, Envelope, FirstHeader, IdentityClaim, PairAnswer, PairOffer,
    PairPublic, Prekey, PrekeyBundle, PrekeyKind, SUITE, codec,
};
use rand_chacha::ChaCha20Rng;

use crate::support::Person;

/// The long-term secrets of an identity, as a dump of a token shows them.
pub(crate) struct Stolen {
    pub(crate) sign: SigningKey,
    pub(crate) dh: DhSecret,
}

impl Stolen {
    pub(crate) fn from(person: &Person) -> Self {
        let mut bytes = [0; IdentityKeys::LEN];
        person.keys.store(&mut bytes).unwrap();
        Self {
            sign: SigningKey::from_bytes(*bytes.first_chunk().unwrap()),
            dh: DhSecret::from_slice(&bytes[32..]).unwrap(),
        }
    }
}

/// X(own, peer).
pub(crate) fn agree(own: &DhSecret, peer: &[u8; 32]) -> [u8; 32] {
    *own.agree(&DhPublic(*peer)).unwrap().expose_bytes()
}

/// A sound identity with somebody's X25519 key: nobody has to prove that it has the other half.
pub(crate) fn identity_with(sign: &SigningKey, dh: &Bytes<32>) -> IdentityClaim {
    let items: [&[u8]; 3] = [label::IDENTITY.as_bytes(), &[SUITE], &dh.0];
    IdentityClaim {
        sign: Bytes(*sign.verifying_key().as_bytes()),
        dh: *dh,
        signature: Bytes(sign.sign(&items)),
    }
}

/// A prekey with the keys of another, signed as one's own.
pub(crate) fn prekey_as_own(prekey: &Prekey, owner: &IdentityClaim, sign: &SigningKey) -> Prekey {
    let mut own = *prekey;
    own.signature = Bytes(prekey.signed_items(owner, |items| sign.sign(items)));
    own
}

/// What the two ends of a session begin with.
struct Derived {
    session: [u8; 16],
    root: [u8; 32],
    chain: [u8; 32],
}

impl Derived {
    fn new(prk: &Prk, labels: [label::Label; 3]) -> Self {
        let mut derived = Self {
            session: [0; 16],
            root: [0; 32],
            chain: [0; 32],
        };
        let [root, chain, session] = labels.map(label::Label::as_bytes);
        prk.danger_expand_bytes(root, &mut derived.root).unwrap();
        prk.danger_expand_bytes(chain, &mut derived.chain).unwrap();
        prk.danger_expand_bytes(session, &mut derived.session)
            .unwrap();
        derived
    }

    /// The initiator's session, by way of its stored form (SPEC 13.4).
    fn initiator(&self, prefix: &Envelope<'_>, rng: &mut ChaCha20Rng) -> Box<Session> {
        let mut prefix = codec::encode_vec::<_, 1700>(prefix).unwrap();
        // The length of the frame that is not there.
        prefix.pop();
        sending(&self.session, &self.root, &self.chain, &prefix, rng)
    }
}

/// A session that seals on a chain of the attacker's choice under a fresh ratchet key.
pub(crate) fn sending(
    session: &[u8; 16],
    root: &[u8; 32],
    chain: &[u8; 32],
    prefix: &[u8],
    rng: &mut ChaCha20Rng,
) -> Box<Session> {
    let ratchet = DhSecret::generate(rng);
    sending_under(
        session,
        root,
        (&ratchet, &ratchet.public().0),
        chain,
        prefix,
    )
}

/// As [`sending`], under a given ratchet key, whose halves need not belong together.
pub(crate) fn sending_under(
    session: &[u8; 16],
    root: &[u8; 32],
    (ratchet, shown): (&DhSecret, &[u8; 32]),
    chain: &[u8; 32],
    prefix: &[u8],
) -> Box<Session> {
    let length = u16::try_from(prefix.len()).unwrap().to_le_bytes();
    let stored = [
        &[2][..],
        session,
        root,
        &[1],
        ratchet.expose_bytes(),
        shown,
        chain,
        &[0; 8],
        &[0],
        &length,
        prefix,
        &[0; 2],
    ];
    let mut session = Box::new(Session::empty());
    session.load(&stored.concat()).unwrap();
    session
}

/// The session behind a first message whose secrets are `ikm`: DH1, DH2, DH3, DH4 if there is one, ss.
pub(crate) fn first_session(
    header: &FirstHeader,
    bundle: &PrekeyBundle,
    ikm: &[&[u8]],
    rng: &mut ChaCha20Rng,
) -> Box<Session> {
    let encoded = codec::encode_vec::<_, 1700>(header).unwrap();
    let owner = codec::encode_vec::<_, 128>(&bundle.identity).unwrap();
    let mut th = Transcript::new()
        .item(label::FIRST_TH.as_bytes())
        .item(&encoded)
        .item(&owner);
    for prekey in [Some(&bundle.last_resort), bundle.one_time.as_ref()]
        .into_iter()
        .flatten()
    {
        let kind = u8::from(prekey.kind == PrekeyKind::LastResort);
        th = th.item_parts(&[
            &[kind],
            &prekey.id.to_be_bytes(),
            &prekey.issued.to_be_bytes(),
            &prekey.dh.0,
            &prekey.kem.0,
        ]);
    }
    let prk = Prk::extract(&th.finish(), ikm);
    let labels = [
        label::FIRST_ROOT,
        label::FIRST_CHAIN,
        label::FIRST_SESSION_ID,
    ];
    let header = header.clone();
    Derived::new(&prk, labels).initiator(&Envelope::First { header, frame: &[] }, rng)
}

/// One side of a pairing.
pub(crate) struct Pairing {
    own: PairOffer,
    cpace: Cpace,
    pub(crate) ephemeral: DhSecret,
    kem: kem::KemSecret,
}

fn channel_identifier(initiator: &Address, responder: &Address) -> Vec<u8> {
    let mut ci = Vec::new();
    let items: [&[u8]; 4] = [
        label::PAIR_CI.as_bytes(),
        &[SUITE],
        initiator.as_str().as_bytes(),
        responder.as_str().as_bytes(),
    ];
    hostchat_core::crypto::hash::lv_cat(&items, &mut |bytes| ci.extend_from_slice(bytes));
    ci
}

/// What a run of a pairing derives: both tags, and the session of its initiator.
struct Agreed {
    tag_a: [u8; 32],
    tag_b: [u8; 32],
    derived: Derived,
}

fn agreed(offer: &PairOffer, answer: &PairAnswer, ikm: &[&[u8]]) -> Agreed {
    let ci = channel_identifier(&offer.public.initiator, &offer.public.responder);
    let ad_a = codec::encode_vec::<_, 1700>(&offer.public).unwrap();
    let ad_b = codec::encode_vec::<_, 1700>(&answer.public).unwrap();
    let th = Transcript::new()
        .item(label::PAIR_TH.as_bytes())
        .item(&ci)
        .item(&offer.sid.0)
        .item(&offer.share.0)
        .item(&ad_a)
        .item(&answer.share.0)
        .item(&ad_b)
        .finish();
    let prk = Prk::extract(&th, ikm);
    let tag = |label: label::Label| {
        let mut key = [0; 32];
        prk.danger_expand_bytes(label.as_bytes(), &mut key).unwrap();
        mac::hmac_sha256(&key, &[&th])
    };
    let labels = [label::PAIR_ROOT, label::PAIR_CHAIN, label::PAIR_SESSION_ID];
    Agreed {
        tag_a: tag(label::PAIR_CONFIRM_A),
        tag_b: tag(label::PAIR_CONFIRM_B),
        derived: Derived::new(&prk, labels),
    }
}

impl Pairing {
    /// Message 1 of `initiator`, for `responder`, with an identity that the attacker only claims.
    pub(crate) fn offer(
        (initiator, responder): (&Address, &Address),
        claimed: &IdentityClaim,
        code: &Code,
        rng: &mut ChaCha20Rng,
    ) -> (Self, PairOffer) {
        let sid = Bytes([0x33; 16]);
        let ci = channel_identifier(initiator, responder);
        let (cpace, share) = Cpace::start(code.expose_digits(), &ci, &sid.0, rng);
        let (ephemeral, kem) = (DhSecret::generate(rng), kem::KemSecret::generate(rng));
        let public = PairPublic {
            role: 1,
            suite: SUITE,
            initiator: initiator.clone(),
            responder: responder.clone(),
            identity: *claimed,
            ephemeral: Bytes(ephemeral.public().0),
            kem: Bytes(kem.encapsulation_key()),
        };
        let share = Bytes(share);
        let own = PairOffer { sid, share, public };
        let run = Self {
            own: own.clone(),
            cpace,
            ephemeral,
            kem,
        };
        (run, own)
    }

    /// The initiator's session behind an answer, with X(IA,EB) and X(EA,IB) as the attacker has them.
    pub(crate) fn confirm(
        self,
        answer: &PairAnswer,
        [initiator, responder]: [&[u8; 32]; 2],
        rng: &mut ChaCha20Rng,
    ) -> Box<Session> {
        let ad_a = codec::encode_vec::<_, 1700>(&self.own.public).unwrap();
        let ad_b = codec::encode_vec::<_, 1700>(&answer.public).unwrap();
        let isk = self
            .cpace
            .finish(Role::Initiator, &[&ad_a], &answer.share.0, &[&ad_b])
            .unwrap();
        let ephemerals = agree(&self.ephemeral, &answer.public.ephemeral.0);
        let ss = self.kem.decapsulate(&answer.public.kem.0);
        let ikm: [&[u8]; 5] = [
            isk.expose_bytes(),
            &ephemerals,
            initiator,
            responder,
            ss.expose_bytes(),
        ];
        let Agreed { tag_a, derived, .. } = agreed(&self.own, answer, &ikm);
        let confirm = Confirm {
            sid: answer.sid,
            tag: Bytes(tag_a),
        };
        let frame: &[u8] = &[];
        derived.initiator(&Envelope::Confirmed { confirm, frame }, rng)
    }
}

/// Message 2 of a claimed identity to an offer; `unknown` is given the attacker's ephemeral secret for X(IA,EB) and X(EA,IB).
pub(crate) fn answer(
    offer: &PairOffer,
    claimed: &IdentityClaim,
    code: &Code,
    secrets: impl FnOnce(&DhSecret) -> [[u8; 32]; 2],
    rng: &mut ChaCha20Rng,
) -> PairAnswer {
    let theirs = &offer.public;
    let ci = channel_identifier(&theirs.initiator, &theirs.responder);
    let (cpace, share) = Cpace::start(code.expose_digits(), &ci, &offer.sid.0, rng);
    let ephemeral = DhSecret::generate(rng);
    let (ciphertext, ss) = kem::encapsulate(&theirs.kem.0, rng).unwrap();
    let mut answer = PairAnswer {
        sid: offer.sid,
        share: Bytes(share),
        public: PairPublic {
            role: 2,
            suite: SUITE,
            initiator: theirs.initiator.clone(),
            responder: theirs.responder.clone(),
            identity: *claimed,
            ephemeral: Bytes(ephemeral.public().0),
            kem: Bytes(ciphertext),
        },
        tag: Bytes([0; 32]),
    };
    let ad_a = codec::encode_vec::<_, 1700>(theirs).unwrap();
    let ad_b = codec::encode_vec::<_, 1700>(&answer.public).unwrap();
    let isk = cpace
        .finish(Role::Responder, &[&ad_b], &offer.share.0, &[&ad_a])
        .unwrap();
    let ephemerals = agree(&ephemeral, &theirs.ephemeral.0);
    let [initiator, responder] = secrets(&ephemeral);
    let ikm: [&[u8]; 5] = [
        isk.expose_bytes(),
        &ephemerals,
        &initiator,
        &responder,
        ss.expose_bytes(),
    ];
    answer.tag = Bytes(agreed(offer, &answer, &ikm).tag_b);
    answer
}
