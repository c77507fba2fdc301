//! Invitations: one-time words that let somebody register. They are stored only as hashes.

use crate::error::Error;
use crate::store::NewInvitation;

/// Crockford's base32: no letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an invitation: 100 random bits.
const LENGTH: usize = 20;

/// Draws a new invitation.
fn draw() -> Result<String, Error> {
    let mut random = [0; LENGTH];
    getrandom::fill(&mut random)
        .map_err(|error| Error::Argument(format!("no random numbers: {error}")))?;
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(byte % 32)]);
    Ok(random.iter().map(letter).collect())
}

/// Longest note, in characters: a line of a table.
pub(crate) const NOTE: usize = 100;
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600_000;

/// Makes a new invitation; `None` for one that could never be used, or for a note that is none.
pub(crate) fn new(uses: u32, note: &str, days: Option<u16>) -> Option<NewInvitation> {
    let note = note.trim();
    let good_note = note.chars().count() <= NOTE && !note.chars().any(char::is_control);
    if uses == 0 || days == Some(0) || !good_note {
        return None;
    }
    Some(NewInvitation {
        words: draw().ok()?,
        uses,
        note: note.to_owned(),
        life_ms: days.map(|days| u64::from(days) * DAY_MS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_can_be_used_and_its_note_is_one_line() {
        let made = new(2, " for Zoë ", Some(7)).unwrap();
        assert_eq!((made.uses, made.note.as_str()), (2, "for Zoë"));
        assert_eq!(made.life_ms, Some(7 * DAY_MS));
        assert_eq!(made.words.len(), LENGTH);
        assert_eq!(new(1, &"ü".repeat(NOTE), None).unwrap().life_ms, None);
        for (uses, note, days) in [
            (0, String::new(), None),
            (1, String::new(), Some(0)),
            (1, "ü".repeat(NOTE + 1), None),
            (1, "two\nlines".to_owned(), None),
            (1, "\u{1b}[2J".to_owned(), None),
        ] {
            assert!(new(uses, &note, days).is_none(), "{uses} {note:?} {days:?}");
        }
    }
}
