//! The only codec: postcard into fixed buffers, decoded strictly.
//!
//! Invariant: for every `T`, `decode(b) == Ok(v)` implies `encode(v) == b`. Plain `postcard::from_bytes` accepts
//! trailing bytes and overlong varints; two encodings of one value would be two hashes of one message.

use heapless::{Vec, VecView};
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::error::{Decode, Error, Misuse};

/// Longest part before the body that [`encode_around`] takes.
pub const MAX_HEAD: usize = 512;

/// Encodes `value` into the front of `buf` and returns that part.
///
/// # Errors
/// `ApiMisuse(BufferTooSmall)` when it does not fit.
pub fn encode<'b, T: Serialize + ?Sized>(
    value: &T,
    buf: &'b mut [u8],
) -> Result<&'b mut [u8], Error> {
    postcard::to_slice(value, buf).map_err(|_| Error::ApiMisuse(Misuse::BufferTooSmall))
}

/// Encodes `value` into a buffer of its own of at most `N` bytes.
///
/// # Errors
/// `ApiMisuse(BufferTooSmall)` when it does not fit.
pub fn encode_vec<T: Serialize + ?Sized, const N: usize>(value: &T) -> Result<Vec<u8, N>, Error> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Replaces the contents of `out` with the encoding of `value`.
///
/// # Errors
/// `ApiMisuse(BufferTooSmall)` when it does not fit; `out` is then empty.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut VecView<u8>) -> Result<(), Error> {
    out.clear();
    if postcard::serialize_with_flavor(value, Append(out)).is_err() {
        out.clear();
        return Err(Error::ApiMisuse(Misuse::BufferTooSmall));
    }
    Ok(())
}

/// Puts the encoding of `value` around the bytes in `body`, which `value` carries as its last field: it is given with an
/// empty one, so that a long body need not be copied to another buffer.
///
/// # Errors
/// `ApiMisuse(BufferTooSmall)` when it does not fit, or when the part before the body has more than [`MAX_HEAD`] bytes.
pub fn encode_around<T: Serialize + ?Sized>(
    value: &T,
    body: &mut VecView<u8>,
) -> Result<(), Error> {
    let small = Error::ApiMisuse(Misuse::BufferTooSmall);
    let mut head: Vec<u8, MAX_HEAD> = encode_vec(value)?;
    // The last byte is the length of the empty body.
    head.pop();
    let length = encode_vec::<_, 5>(&body.len())?;
    head.extend_from_slice(&length).or(Err(small))?;
    let end = body.len();
    body.resize(end + head.len(), 0).or(Err(small))?;
    body.copy_within(..end, head.len());
    body.iter_mut()
        .zip(&head)
        .for_each(|(to, from)| *to = *from);
    Ok(())
}

/// Decodes all of `bytes` as one canonical `T`.
///
/// # Errors
/// `Decode` with what is wrong: truncated, trailing bytes, malformed, or not the canonical encoding.
pub fn decode<'a, T: Serialize + Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    let (value, rest) = decode_prefix(bytes)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(Error::Decode(Decode::TrailingBytes))
    }
}

/// Decodes one canonical `T` from the front of `bytes` and returns the rest.
///
/// # Errors
/// `Decode` with what is wrong: truncated, malformed, or not the canonical encoding.
pub fn decode_prefix<'a, T: Serialize + Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), Error> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|error| {
        Error::Decode(match error {
            postcard::Error::DeserializeUnexpectedEnd => Decode::Truncated,
            _ => Decode::Malformed,
        })
    })?;
    let used = bytes.len() - rest.len();
    let left = bytes.get(..used).ok_or(Error::Decode(Decode::Malformed))?;
    match postcard::serialize_with_flavor(&value, Compare { left }) {
        Ok(true) => Ok((value, rest)),
        _ => Err(Error::Decode(Decode::NotCanonical)),
    }
}

/// Appends to a borrowed vector.
struct Append<'v>(&'v mut VecView<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0
            .push(byte)
            .map_err(|_| postcard::Error::SerializeBufferFull)
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0
            .extend_from_slice(bytes)
            .map_err(|_| postcard::Error::SerializeBufferFull)
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Compares what is written with what is expected, so that no second buffer is needed.
struct Compare<'e> {
    left: &'e [u8],
}

impl Flavor for Compare<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.left = self
            .left
            .strip_prefix(bytes)
            .ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.left.is_empty())
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
    pub fn trailing_bytes_and_overlong_varints_are_refused() {
        assert_eq!(
            decode::<u32>(&[1, 0]),
            Err(Error::Decode(Decode::TrailingBytes))
        );
        assert_eq!(
            decode::<u32>(&[0x81, 0x00]),
            Err(Error::Decode(Decode::NotCanonical))
        );
        assert_eq!(
            decode::<u32>(&[0x81]),
            Err(Error::Decode(Decode::Truncated))
        );
        assert_eq!(decode::<bool>(&[2]), Err(Error::Decode(Decode::Malformed)));
        assert_eq!(decode::<u32>(&[0x81, 0x01]), Ok(129));
    }

    #[cfg_attr(test, test)]
    pub fn what_is_encoded_around_a_body_is_what_is_encoded_with_it() {
        for length in [0, 1, 127, 128, 300] {
            let long = [7u8; 300];
            let body = &long[..length];
            let mut out = Vec::<u8, 308>::from_slice(body).unwrap();
            let empty: &[u8] = &[];
            encode_around(&(5u8, 300u16, empty), &mut out).unwrap();
            assert_eq!(out, encode_vec::<_, 308>(&(5u8, 300u16, body)).unwrap());
        }
        let mut full = Vec::<u8, 4>::from_slice(&[1; 4]).unwrap();
        let empty: &[u8] = &[];
        assert!(encode_around(&empty, &mut full).is_err());
        assert_eq!(full, [1; 4]);
    }

    #[cfg_attr(test, test)]
    pub fn a_full_buffer_is_an_error_and_leaves_nothing() {
        let mut out = Vec::<u8, 2>::new();
        assert_eq!(
            encode_into(&[1u8, 2, 3], &mut out),
            Err(Error::ApiMisuse(Misuse::BufferTooSmall))
        );
        assert!(out.is_empty());
        assert_eq!(encode_vec::<_, 3>(&[1u8, 2, 3]).unwrap(), [1, 2, 3]);
    }
}
