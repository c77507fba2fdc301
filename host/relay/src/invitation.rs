//! Invitations: one-time words that let somebody register. They are stored only as hashes.

use crate::error::Error;

/// Crockford's base32: no letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an invitation: 100 random bits.
const LENGTH: usize = 20;

/// Draws a new invitation.
pub(crate) fn draw() -> Result<String, Error> {
    let mut random = [0; LENGTH];
    getrandom::fill(&mut random)
        .map_err(|error| Error::Argument(format!("no random numbers: {error}")))?;
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(byte % 32)]);
    Ok(random.iter().map(letter).collect())
}
