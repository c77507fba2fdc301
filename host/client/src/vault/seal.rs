//! Sealing of the vault's columns.
//!
//! ```text
//!  storage key ──Exp──┬─ "vault seal" ─▶ AES-SIV key: column = tag ‖ ciphertext, AD = table, column, row id, format
//!                     ├─ "vault mark" ─▶ HMAC key for marks by which repeats are found
//!                     └─ "commitment" ─▶ kept in clear: tells the right token before anything is opened
//! ```
//!
//! Invariant: a sealed value opens only in the table, column and row that it was sealed for.

use hostchat_core::crypto::kdf::Prk;
use hostchat_core::crypto::siv::{SivKey, TAG_LEN};
use hostchat_core::crypto::{label, mac};
use zeroize::Zeroizing;

use crate::token::StorageKey;

hostchat_core::secret! {
    /// Key of the marks.
    struct MarkKey(32);
    /// Says which storage key sealed a vault, and reveals nothing about it.
    struct Commitment(32);
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
}

/// The keys of an open vault.
pub struct Sealer {
    seal: SivKey,
    mark: MarkKey,
    commitment: Commitment,
}

/// Format of the sealed values, part of their associated data.
const FORMAT: [u8; 1] = [1];

impl Sealer {
    /// Derives the keys.
    pub fn new(storage: &StorageKey) -> Self {
        let prk = Prk::from_bytes(*storage.expose_bytes());
        Self {
            seal: prk.expand(label::VAULT_SEAL),
            mark: prk.expand(label::VAULT_MARK),
            commitment: prk.expand(label::COMMITMENT),
        }
    }

    /// What is kept in clear.
    pub fn commitment(&self) -> &[u8; 32] {
        self.commitment.expose_bytes()
    }

    /// Seals a value for one place.
    pub fn seal(&self, place: Column, row: i64, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; TAG_LEN];
        out.extend_from_slice(plain);
        let (tag, body) = out.split_at_mut(TAG_LEN);
        tag.copy_from_slice(
            &self
                .seal
                .seal_in_place(&ad(place, &row.to_be_bytes()), body),
        );
        out
    }

    /// Opens a value of one place; `None` if it was not sealed for it under this key.
    pub fn open(&self, place: Column, row: i64, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (tag, body) = sealed.split_first_chunk::<TAG_LEN>()?;
        let mut plain = Zeroizing::new(body.to_vec());
        self.seal
            .open_in_place(&ad(place, &row.to_be_bytes()), &mut plain, tag)
            .ok()?;
        Some(plain)
    }

    /// A mark for what `parts` name together: equal for equal parts, and telling nothing about them.
    pub fn mark(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut framed = Vec::new();
        hostchat_core::crypto::hash::lv_cat(parts, &mut |bytes| framed.extend_from_slice(bytes));
        let mac = mac::hmac_sha256(self.mark.expose_bytes(), &[&framed]);
        let mut mark = [0; 16];
        mark.copy_from_slice(mac.first_chunk::<16>().unwrap_or(&[0; 16]));
        mark
    }
}

fn ad(place: Column, row: &[u8; 8]) -> [&[u8]; 4] {
    [
        place.table.as_bytes(),
        place.column.as_bytes(),
        row,
        &FORMAT,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Column = Column {
        table: "t",
        column: "a",
    };

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&StorageKey::from_bytes([byte; 32]))
    }

    #[test]
    fn a_value_opens_in_its_place_only() {
        let sealer = sealer(1);
        let sealed = sealer.seal(A, 7, b"meet at nine");
        assert_eq!(
            sealer.open(A, 7, &sealed).as_deref().map(Vec::as_slice),
            Some(&b"meet at nine"[..])
        );
        assert!(sealer.open(A, 8, &sealed).is_none());
        assert!(
            sealer
                .open(Column { column: "b", ..A }, 7, &sealed)
                .is_none()
        );
        assert!(
            sealer
                .open(Column { table: "u", ..A }, 7, &sealed)
                .is_none()
        );
        assert!(self::sealer(2).open(A, 7, &sealed).is_none());
        assert!(sealer.open(A, 7, &[]).is_none());
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let sealer = sealer(1);
        let sealed = sealer.seal(A, 1, b"text");
        for at in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(sealer.open(A, 1, &bad).is_none(), "bit {at}");
        }
        assert!(!sealed.windows(4).any(|w| w == b"text"));
    }

    #[test]
    fn marks_tell_the_border_between_their_parts() {
        let sealer = sealer(1);
        assert_eq!(sealer.mark(&[b"ab", b"c"]), sealer.mark(&[b"ab", b"c"]));
        assert_ne!(sealer.mark(&[b"ab", b"c"]), sealer.mark(&[b"a", b"bc"]));
        assert_ne!(
            sealer.mark(&[b"ab", b"c"]),
            self::sealer(2).mark(&[b"ab", b"c"])
        );
    }
}
