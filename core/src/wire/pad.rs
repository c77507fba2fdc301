//! Padding of message contents: a length prefix, the content, zeros up to a Padmé length.
//!
//! ```text
//!  0        2                2 + len                 padded_len(len)
//!  ├ len LE ┼──── content ───┼──────── zeros ────────┤
//! ```
//!
//! Padmé leaks `O(log log len)` bits of the length at a cost of at most 12%; below 64 bytes every
//! content looks alike. The invariant: **one content has exactly one padded form**, so a padded
//! text of another length, or with a byte that is not zero after the content, is refused
//! (SPEC section 6.3).

use heapless::VecView;

use crate::error::{Decode, Error, Limit, Misuse, Peer};
use crate::wire::MAX_CONTENT;

/// The shortest padded text in bytes: a receipt and a short sentence look alike.
pub const MIN_PADDED: usize = 64;

/// Length of the length prefix in bytes.
const PREFIX: usize = 2;

/// Gives the padded length of a content of `len` bytes (at most [`MAX_CONTENT`]).
#[must_use]
pub const fn padded_len(len: usize) -> usize {
    padme(len.saturating_add(PREFIX))
}

/// Rounds a length up to the next Padmé length, [`MIN_PADDED`] at least.
///
/// With E = floor(log2 len) and S = floor(log2 E) + 1 the lowest E - S bits become zero.
#[must_use]
pub const fn padme(len: usize) -> usize {
    if len <= MIN_PADDED {
        return MIN_PADDED;
    }
    let exponent = len.ilog2();
    let significant = exponent.ilog2() + 1;
    let mask = (1usize << (exponent - significant)) - 1;
    match len.checked_add(mask) {
        Some(sum) => sum & !mask,
        None => len,
    }
}

/// Appends the padded form of `content` to `out` and gives its length.
///
/// # Errors
///
/// [`Limit::TooLong`] if the content is longer than [`MAX_CONTENT`],
/// [`Misuse::BufferTooSmall`] if `out` has no room; `out` is unchanged then.
pub fn pad(content: &[u8], out: &mut VecView<u8>) -> Result<usize, Error> {
    let too_long = Error::Limit(Limit::TooLong);
    if content.len() > MAX_CONTENT {
        return Err(too_long);
    }
    let prefix = u16::try_from(content.len()).map_err(|_| too_long)?;
    let padded = padded_len(content.len());
    let too_small = Error::ApiMisuse(Misuse::BufferTooSmall);
    if out.capacity() - out.len() < padded {
        return Err(too_small);
    }
    let end = out.len() + padded;
    out.extend_from_slice(&prefix.to_le_bytes())
        .and_then(|()| out.extend_from_slice(content))
        .map_err(|_| too_small)?;
    out.resize(end, 0).map_err(|_| too_small)?;
    Ok(padded)
}

/// Gives the content inside a padded text.
///
/// # Errors
///
/// [`Decode::Truncated`] or [`Decode::TooLong`] if the length prefix cannot be right,
/// [`Peer::BadPadding`] if the padding is not the one padding of that content.
pub fn unpad(padded: &[u8]) -> Result<&[u8], Error> {
    let (prefix, rest) = padded
        .split_first_chunk::<PREFIX>()
        .ok_or(Error::Decode(Decode::Truncated))?;
    let len = usize::from(u16::from_le_bytes(*prefix));
    if len > MAX_CONTENT {
        return Err(Error::Decode(Decode::TooLong));
    }
    let (content, zeros) = rest
        .split_at_checked(len)
        .ok_or(Error::Decode(Decode::Truncated))?;
    let bits = zeros.iter().fold(0, |bits, byte| bits | byte);
    if bits != 0 || padded.len() != padded_len(len) {
        return Err(Error::PeerMisbehaved(Peer::BadPadding));
    }
    Ok(content)
}

/// Cuts a padded text down to its content, and wipes what was behind it.
///
/// # Errors
///
/// As [`unpad`]; the text is unchanged then.
pub fn unpad_in_place(padded: &mut VecView<u8>) -> Result<(), Error> {
    let len = unpad(padded)?.len();
    padded.copy_within(PREFIX..PREFIX + len, 0);
    if let Some(behind) = padded.get_mut(len..) {
        behind.fill(0);
    }
    padded.truncate(len);
    Ok(())
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
    use crate::wire::MAX_PADDED;

    type Padded = heapless::Vec<u8, MAX_PADDED>;

    fn padded(content: &[u8]) -> Padded {
        let mut out = Padded::new();
        assert_eq!(pad(content, &mut out), Ok(padded_len(content.len())));
        out
    }

    #[cfg_attr(test, test)]
    pub fn lengths_follow_padme() {
        for (len, padded) in [
            (0, 64),
            (64, 64),
            (65, 72),
            (72, 72),
            (73, 80),
            (128, 128),
            (129, 144),
            (1000, 1024),
            (1025, 1088),
            (4098, 4352),
        ] {
            assert_eq!(padme(len), padded, "{len}");
        }
        assert_eq!(padded_len(MAX_CONTENT), MAX_PADDED);
    }

    #[cfg_attr(test, test)]
    pub fn overhead_is_at_most_an_eighth_and_lengths_are_monotonic() {
        let mut before = 0;
        for len in 0..=MAX_CONTENT {
            let padded = padded_len(len);
            assert!(padded >= before && padded >= len + PREFIX);
            assert!(padded == MIN_PADDED || (padded - len - PREFIX) * 8 <= len + PREFIX);
            assert_eq!(padme(padded), padded, "a Padmé length is its own");
            before = padded;
        }
    }

    #[cfg_attr(test, test)]
    pub fn every_length_round_trips() {
        let text = [0x5a; MAX_CONTENT];
        for len in 0..=MAX_CONTENT {
            let content = &text[..len];
            let padded = padded(content);
            assert_eq!(padded.len(), padded_len(len));
            assert_eq!(unpad(&padded), Ok(content));
        }
    }

    #[cfg_attr(test, test)]
    pub fn content_over_the_maximum_is_refused() {
        let mut out = Padded::new();
        assert_eq!(
            pad(&[0; MAX_CONTENT + 1], &mut out),
            Err(Error::Limit(Limit::TooLong))
        );
        assert!(out.resize(MAX_PADDED - 63, 0).is_ok());
        assert_eq!(
            pad(b"", &mut out),
            Err(Error::ApiMisuse(Misuse::BufferTooSmall))
        );
        assert_eq!(out.len(), MAX_PADDED - 63);
    }

    #[cfg_attr(test, test)]
    pub fn any_padding_byte_that_is_not_zero_is_refused() {
        let padded = padded(b"hello");
        for at in PREFIX + 5..padded.len() {
            for bit in 0..8 {
                let mut bad = padded.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(unpad(&bad), Err(Error::PeerMisbehaved(Peer::BadPadding)));
            }
        }
    }

    #[cfg_attr(test, test)]
    pub fn a_padded_length_of_another_content_is_refused() {
        let mut padded = padded(&[1; 100]);
        for len in 0..padded.len() {
            assert!(unpad(&padded[..len]).is_err(), "{len}");
        }
        assert_eq!(padded.push(0), Ok(()));
        assert_eq!(unpad(&padded), Err(Error::PeerMisbehaved(Peer::BadPadding)));
        assert_eq!(
            unpad(&[0xff; MAX_PADDED]),
            Err(Error::Decode(Decode::TooLong))
        );
    }
}
