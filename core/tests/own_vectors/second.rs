//! The second implementation: SPEC's notation over bare bytes, and the randomness of the vectors.

use alloc::vec::Vec;

use hostchat_core::crypto::dh::{DhPublic, DhSecret};
use hostchat_core::crypto::kdf::Prk;
use hostchat_core::crypto::pake::{Cpace, Role};
use hostchat_core::crypto::siv::SivKey;
use hostchat_core::crypto::{hash, mac};
use rand_chacha::rand_core::{TryCryptoRng, TryRng};

use super::doc::Doc;

/// Gives the bytes that a vector draws under a name: SHA-256(name ‖ counter) for counter = 0, 1, ..
pub(crate) fn drawn(name: &str, len: usize) -> Vec<u8> {
    let blocks = (0u8..).flat_map(|counter| hash::sha256(&[name.as_bytes(), &[counter]]));
    blocks.take(len).collect()
}

/// As [`drawn`], for an array.
pub(crate) fn array<const N: usize>(name: &str) -> [u8; N] {
    drawn(name, N).try_into().unwrap()
}

/// A random number generator that gives named bytes, in a stated order and of stated lengths.
pub(crate) struct Script {
    names: Vec<&'static str>,
    next: usize,
    pub(crate) doc: Doc,
}

impl Script {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        Self {
            names: names.to_vec(),
            next: 0,
            doc: Doc::default(),
        }
    }

    /// Gives the draws as a part of the vector file; all must have been made.
    pub(crate) fn into_doc(self) -> Doc {
        assert_eq!(self.next, self.names.len(), "draws that were not made");
        self.doc
    }
}

impl TryRng for Script {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        panic!("the protocol draws bytes only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        panic!("the protocol draws bytes only")
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        let name = self.names[self.next];
        self.next += 1;
        dst.copy_from_slice(&drawn(name, dst.len()));
        let doc = core::mem::take(&mut self.doc);
        self.doc = doc.hex(name, &*dst);
        Ok(())
    }
}

impl TryCryptoRng for Script {}

/// LEB128, as in length prefixes and in the codec.
pub(crate) fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
    out
}

/// A length and the bytes.
pub(crate) fn lv(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// lv_cat of CPace.
pub(crate) fn lv_cat(items: &[&[u8]]) -> Vec<u8> {
    items.iter().flat_map(|item| lv(item)).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    hash::sha256(&[bytes])
}

pub(crate) fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    mac::hmac_sha256(key, &[message])
}

/// HKDF-Extract.
pub(crate) fn extract(salt: &[u8], ikm: &[&[u8]]) -> [u8; 32] {
    *Prk::extract(salt, &[&ikm.concat()]).expose_bytes()
}

/// Exp(prk, label).
pub(crate) fn expand<const N: usize>(prk: &[u8; 32], label: &str) -> [u8; N] {
    let mut out = [0; N];
    Prk::from_bytes(*prk)
        .danger_expand_bytes(label.as_bytes(), &mut out)
        .unwrap();
    out
}

/// X(secret, public).
pub(crate) fn x25519(secret: &[u8], public: &[u8]) -> [u8; 32] {
    let public = DhPublic(public.try_into().unwrap());
    *DhSecret::from_slice(secret)
        .unwrap()
        .agree(&public)
        .unwrap()
        .expose_bytes()
}

/// The X25519 public key.
pub(crate) fn x25519_public(secret: &[u8]) -> [u8; 32] {
    DhSecret::from_slice(secret).unwrap().public().0
}

/// SIV: tag, then ciphertext.
pub(crate) fn siv(key: &[u8; 64], ad: &[&[u8]], plain: &[u8]) -> Vec<u8> {
    let mut out = plain.to_vec();
    let tag = SivKey::from_bytes(*key).seal_in_place(ad, &mut out);
    [tag.to_vec(), out].concat()
}

/// One side of CPace: the share for the 64 bytes drawn, and the ISK once the other side's share is known.
pub(crate) struct Pake {
    cpace: Cpace,
    pub(crate) share: [u8; 32],
}

impl Pake {
    pub(crate) fn new(prs: &[u8], ci: &[u8], sid: &[u8; 16], draw: &'static str) -> Self {
        let (cpace, share) = Cpace::start(prs, ci, sid, &mut Script::new(&[draw]));
        Self { cpace, share }
    }

    pub(crate) fn isk(self, role: Role, own_ad: &[u8], share: &[u8; 32], ad: &[u8]) -> [u8; 64] {
        *self
            .cpace
            .finish(role, &[own_ad], share, &[ad])
            .unwrap()
            .expose_bytes()
    }
}

/// The padded text of a content: length (2 bytes, little-endian), content, zeros.
pub(crate) fn padded(content: &[u8]) -> Vec<u8> {
    let len = content.len() + 2;
    let mut target = 64;
    if len > 64 {
        let e = (0..).take_while(|bit| len >> bit > 1).count();
        let s = (0..).take_while(|bit| e >> bit > 0).count();
        let step = 1usize << (e - s);
        target = len.div_ceil(step) * step;
    }
    let mut out = u16::try_from(content.len()).unwrap().to_le_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(target, 0);
    out
}

/// A frame header.
pub(crate) fn header(session: &[u8; 16], ratchet_key: &[u8; 32], pn: u32, n: u32) -> Vec<u8> {
    [
        &[1, 1][..],
        session,
        ratchet_key,
        &varint(u64::from(pn)),
        &varint(u64::from(n)),
        &[0],
    ]
    .concat()
}

/// Everything that sealing one message computes.
pub(crate) struct SealedFrame {
    pub(crate) next_chain_key: [u8; 32],
    pub(crate) frame: Vec<u8>,
    pub(crate) doc: Doc,
}

/// Seals one message with a chain key.
pub(crate) fn seal_frame(
    chain_key: &[u8; 32],
    header: &[u8],
    message_id: &[u8; 16],
    content: &[u8],
) -> SealedFrame {
    let session = &header[2..18];
    let message_key = hmac(chain_key, b"hostchat/1 message key");
    let next_chain_key = hmac(chain_key, b"hostchat/1 next chain key");
    let siv_key: [u8; 64] = expand(
        &extract(message_id, &[&message_key]),
        "hostchat/1 message siv",
    );
    let ad = [session, header, message_id].concat();
    let padded = padded(content);
    let sealed = siv(&siv_key, &[&ad], &padded);
    let frame = [header, message_id, &sealed].concat();
    let doc = Doc::default()
        .hex("chain_key", chain_key)
        .hex("message_key", message_key)
        .hex("next_chain_key", next_chain_key)
        .hex("message_id", message_id)
        .hex("siv_key", siv_key)
        .hex("header", header)
        .hex("associated_data", &ad)
        .hex("content", content)
        .hex("padded", &padded)
        .hex("frame", &frame);
    SealedFrame {
        next_chain_key,
        frame,
        doc,
    }
}

/// One step of the root chain: root key and chain key.
pub(crate) fn root_step(root: &[u8; 32], shared: &[u8; 32]) -> ([u8; 32], [u8; 32], Doc) {
    let prk = extract(root, &[shared]);
    let (next, chain): ([u8; 32], [u8; 32]) = (
        expand(&prk, "hostchat/1 root key"),
        expand(&prk, "hostchat/1 chain key"),
    );
    let doc = Doc::default()
        .hex("root_key", root)
        .hex("shared", shared)
        .hex("prk", prk)
        .hex("next_root_key", next)
        .hex("chain_key", chain);
    (next, chain, doc)
}
