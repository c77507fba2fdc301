//! SHA-256, the length-prefixed concatenation of CPace, and transcript hashes over it.
//!
//! `lv(x)` = LEB128(length of x) ‖ x, and `lv_cat(a, b, ..)` = `lv(a)` ‖ `lv(b)` ‖ .. (draft-irtf-cfrg-cpace-21). The
//! functions write to any sink, so that no buffer is needed to hash or to sign a concatenation.

use sha2::{Digest as _, Sha256};

/// Hashes the concatenation of `parts` (no length prefixes) with SHA-256.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// A LEB128 length prefix: 7 bits a byte, least significant first, in the fewest bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthPrefix {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl LengthPrefix {
    const MAX: usize = usize::BITS.div_ceil(7) as usize;

    /// Encodes a length.
    #[must_use]
    pub const fn new(length: usize) -> Self {
        let mut bytes = [0; Self::MAX];
        let mut rest = length;
        let mut len = 0;
        loop {
            let low = (rest & 0x7f) as u8;
            rest >>= 7;
            bytes[len] = if rest == 0 { low } else { low | 0x80 };
            len += 1;
            if rest == 0 {
                return Self { bytes, len };
            }
        }
    }

    /// Returns the encoded length, 1 to 10 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// Writes `lv(item)`.
pub fn lv(item: &[u8], sink: &mut impl FnMut(&[u8])) {
    lv_parts(&[item], sink);
}

/// Writes `lv(item)` for one item that is given in parts: one length prefix, then the parts.
pub fn lv_parts(parts: &[&[u8]], sink: &mut impl FnMut(&[u8])) {
    let length = parts.iter().map(|part| part.len()).sum();
    sink(LengthPrefix::new(length).as_bytes());
    for part in parts {
        sink(part);
    }
}

/// Writes `lv_cat(items)`.
pub fn lv_cat(items: &[&[u8]], sink: &mut impl FnMut(&[u8])) {
    for item in items {
        lv(item, sink);
    }
}

/// Builds a transcript hash: SHA-256 over `lv_cat` of the items.
pub struct Transcript(Sha256);

impl Transcript {
    /// Starts an empty transcript; its first item should be a label.
    #[must_use]
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Appends one item.
    #[must_use]
    pub fn item(self, item: &[u8]) -> Self {
        self.item_parts(&[item])
    }

    /// Appends one item that is the concatenation of `parts`.
    #[must_use]
    pub fn item_parts(mut self, parts: &[&[u8]]) -> Self {
        lv_parts(parts, &mut |bytes| self.0.update(bytes));
        self
    }

    /// Returns the hash.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl Default for Transcript {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use super::*;

    #[cfg_attr(test, test)]
    pub fn length_prefix_is_leb128() {
        let cases: [(usize, &[u8]); 7] = [
            (0, &[0]),
            (1, &[1]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (300, &[0xac, 0x02]),
            (16_384, &[0x80, 0x80, 0x01]),
            (u32::MAX as usize, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (length, bytes) in cases {
            assert_eq!(LengthPrefix::new(length).as_bytes(), bytes);
        }
    }

    #[cfg_attr(test, test)]
    pub fn where_one_item_ends_is_part_of_the_transcript() {
        let joined = Transcript::new().item(b"ab").item(b"c").finish();
        assert_eq!(
            joined,
            Transcript::new()
                .item_parts(&[b"a", b"b"])
                .item(b"c")
                .finish()
        );
        assert_eq!(joined, sha256(&[b"\x02ab\x01c"]));
        assert_ne!(joined, Transcript::new().item(b"a").item(b"bc").finish());
        assert_ne!(joined, Transcript::new().item(b"abc").finish());
        assert_ne!(
            joined,
            Transcript::new().item(b"ab").item(b"c").item(b"").finish()
        );
    }
}
