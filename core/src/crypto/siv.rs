//! AES-256-SIV (RFC 5297): AEAD_AES_SIV_CMAC_512 with a vector of associated data.
//!
//! The construction over the `aes`, `ctr` and `cmac` crates is ours; the `aes-siv` crate and the public vectors are the
//! oracles. A repeated input under the same key shows only that it was repeated. SIV does not commit to its key:
//! where a key comes from a human secret or from a peer, carry a commitment beside it.

use aes::{Aes128, Aes256};
use cipher::array::Array;
use cipher::consts::{U16, U32, U64};
use cipher::{KeyIvInit as _, StreamCipher as _};
use cmac::{Cmac, KeyInit as _, Mac};
use ctr::Ctr128BE;
use heapless::Vec;
use zeroize::Zeroize as _;

use crate::error::{Decode, Error, Misuse};
use crate::secret::ct_eq;

/// Length of the tag (the synthetic IV) in bytes; it stands before the ciphertext.
pub const TAG_LEN: usize = 16;

/// The most strings of associated data: S2V takes 127 strings, the last of which is the plaintext (RFC 5297, 7).
pub const MAX_AD: usize = 126;

const BLOCK: usize = 16;

crate::secret! {
    /// A key of AES-256-SIV: 32 bytes for CMAC, then 32 bytes for CTR.
    pub struct SivKey(64);
}

impl SivKey {
    /// Encrypts `buf` in place and returns the tag that authenticates it together with each string of `ad`.
    ///
    /// # Panics
    /// If there are more than [`MAX_AD`] strings of associated data: a call that no code here makes, whatever the input.
    #[must_use]
    pub fn seal_in_place(&self, ad: &[&[u8]], buf: &mut [u8]) -> [u8; TAG_LEN] {
        assert!(ad.len() <= MAX_AD, "too many strings of associated data");
        let tag = s2v(&self.mac(), ad, buf);
        self.ctr(&tag).apply_keystream(buf);
        tag
    }

    /// Decrypts `buf` in place and checks the tag; after an error `buf` holds zeros, never unverified plaintext.
    ///
    /// # Errors
    /// `Error::Authentication` if the tag does not match; `Misuse::TooManyItems` beyond [`MAX_AD`].
    pub fn open_in_place(
        &self,
        ad: &[&[u8]],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Error> {
        if ad.len() > MAX_AD {
            buf.zeroize();
            return Err(Misuse::TooManyItems.into());
        }
        self.ctr(tag).apply_keystream(buf);
        let expected = s2v(&self.mac(), ad, buf);
        if ct_eq(&expected, tag) {
            Ok(())
        } else {
            buf.zeroize();
            Err(Error::Authentication)
        }
    }

    /// Appends tag ‖ ciphertext of `plain` to `out`.
    ///
    /// # Errors
    /// `Misuse::BufferTooSmall` if it does not fit (`out` is unchanged); `Misuse::TooManyItems` beyond [`MAX_AD`].
    pub fn seal_vec<const N: usize>(
        &self,
        ad: &[&[u8]],
        plain: &[u8],
        out: &mut Vec<u8, N>,
    ) -> Result<(), Error> {
        if ad.len() > MAX_AD {
            return Err(Misuse::TooManyItems.into());
        }
        let start = out.len();
        if N - start < TAG_LEN + plain.len() {
            return Err(Misuse::BufferTooSmall.into());
        }
        let fits = out
            .extend_from_slice(&[0; TAG_LEN])
            .and_then(|()| out.extend_from_slice(plain));
        match (
            fits,
            out.get_mut(start..)
                .and_then(|sealed| sealed.split_first_chunk_mut::<TAG_LEN>()),
        ) {
            (Ok(()), Some((tag, buf))) => {
                *tag = self.seal_in_place(ad, buf);
                Ok(())
            }
            _ => Err(Misuse::BufferTooSmall.into()),
        }
    }

    /// Appends the plaintext of `sealed` (tag ‖ ciphertext) to `out`; after an error nothing was appended.
    ///
    /// # Errors
    /// `Decode::Truncated` if `sealed` is shorter than a tag; `Misuse::BufferTooSmall` if the plaintext does not fit;
    /// else as [`open_in_place`](Self::open_in_place).
    pub fn open_vec<const N: usize>(
        &self,
        ad: &[&[u8]],
        sealed: &[u8],
        out: &mut Vec<u8, N>,
    ) -> Result<(), Error> {
        let (tag, ciphertext) = sealed
            .split_first_chunk::<TAG_LEN>()
            .ok_or(Decode::Truncated)?;
        let start = out.len();
        out.extend_from_slice(ciphertext)
            .map_err(|_| Misuse::BufferTooSmall)?;
        let opened = self.open_in_place(ad, out.get_mut(start..).unwrap_or_default(), tag);
        if opened.is_err() {
            out.truncate(start);
        }
        opened
    }

    fn mac(&self) -> Cmac<Aes256> {
        let key: &Array<u8, U64> = self.expose_bytes().into();
        Cmac::new(key.split_ref::<U32>().0)
    }

    fn ctr(&self, tag: &[u8; TAG_LEN]) -> Ctr128BE<Aes256> {
        let key: &Array<u8, U64> = self.expose_bytes().into();
        Ctr128BE::new(key.split_ref::<U32>().1, &counter(tag).into())
    }
}

/// Does the same with AES-128, for the examples of RFC 5297 only: no key of the protocol is that short.
#[doc(hidden)]
#[must_use]
pub fn danger_seal_aes128(key: &[[u8; 16]; 2], ad: &[&[u8]], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let [mac_key, ctr_key] = key;
    let tag = s2v(&Cmac::<Aes128>::new(mac_key.into()), ad, buf);
    Ctr128BE::<Aes128>::new(ctr_key.into(), &counter(&tag).into()).apply_keystream(buf);
    tag
}

/// Computes S2V(ad.., plain) of RFC 5297 section 2.4.
fn s2v<M: Mac<OutputSize = U16> + Clone>(keyed: &M, ad: &[&[u8]], plain: &[u8]) -> [u8; TAG_LEN] {
    let mac = |input: &[u8]| -> [u8; BLOCK] {
        keyed
            .clone()
            .chain_update(input)
            .finalize()
            .into_bytes()
            .into()
    };

    let mut d = mac(&[0; BLOCK]);
    for string in ad {
        d = dbl(d);
        xor(&mut d, &mac(string));
    }
    let mut last = keyed.clone();
    if let Some((head, tail)) = plain.split_last_chunk::<BLOCK>() {
        // T = plain xorend D
        last.update(head);
        xor(&mut d, tail);
    } else {
        // T = dbl(D) xor pad(plain)
        d = dbl(d);
        xor(&mut d, plain);
        if let Some(byte) = d.get_mut(plain.len()) {
            *byte ^= 0x80;
        }
    }
    let tag = last.chain_update(d).finalize().into_bytes().into();
    d.zeroize();
    tag
}

/// Computes the first counter: the tag with the top bit of its last two 32-bit words cleared (RFC 5297 section 2.6).
fn counter(tag: &[u8; TAG_LEN]) -> [u8; BLOCK] {
    let mut q = *tag;
    q[8] &= 0x7f;
    q[12] &= 0x7f;
    q
}

/// Doubles in GF(2^128) with the polynomial of CMAC (RFC 5297 section 2.3), in constant time.
fn dbl(block: [u8; BLOCK]) -> [u8; BLOCK] {
    let x = u128::from_be_bytes(block);
    let carry = x >> 127;
    ((x << 1) ^ (carry * 0x87)).to_be_bytes()
}

fn xor(into: &mut [u8; BLOCK], bytes: &[u8]) {
    for (a, b) in into.iter_mut().zip(bytes) {
        *a ^= b;
    }
}
