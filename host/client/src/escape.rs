//! Text from outside, made safe for a terminal.
//!
//! Invariant: what [`escape`] returns holds no control character, no character that changes the direction of text, and
//! none that is invisible; each of these is shown as `\u{..}`. A backslash that could begin such a form, or stands before
//! one, is shown as `\\`, so that two different texts never look alike because of the escape itself.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes everything that could drive a terminal or hide in it; tabs and line ends too.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_with(text, |_| false)
}

/// As [`escape`], but leaves line feeds, which a message of several lines has; continued lines are indented.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    let escaped = escape_with(text, |c| c == '\n');
    if escaped.contains('\n') {
        Cow::Owned(escaped.replace('\n', "\n    "))
    } else {
        escaped
    }
}

/// Whether a character is shown escaped.
pub fn is_hostile(c: char) -> bool {
    c.is_control() || is_direction(c) || is_invisible(c)
}

fn escape_with(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let bad = |c: char| !keep(c) && is_hostile(c);
    if !text.chars().any(|c| bad(c) || c == '\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if bad(c) {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        } else if c == '\\'
            && rest
                .peek()
                .is_some_and(|&next| matches!(next, 'u' | '\\') || bad(next))
        {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9), and the Arabic letter mark.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Separators that break lines, zero-width and filler characters, soft hyphens, variation selectors that hide data,
/// annotations, tags, and non-characters.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'
            | '\u{ffff}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_is_escaped() {
        for c in (0..=0x1f).chain(0x7f..=0x9f).filter_map(char::from_u32) {
            let shown = escape(&format!("a{c}b")).into_owned();
            assert_eq!(shown, format!("a\\u{{{:x}}}b", c as u32));
        }
    }

    #[test]
    fn every_character_of_direction_is_escaped() {
        let directions = (0x202a..=0x202e)
            .chain(0x2066..=0x2069)
            .chain([0x200e, 0x200f, 0x61c]);
        for c in directions.filter_map(char::from_u32) {
            assert_eq!(escape(&c.to_string()), format!("\\u{{{:x}}}", c as u32));
        }
    }

    #[test]
    fn separators_and_invisible_characters_are_escaped() {
        for c in [
            '\u{2028}',
            '\u{2029}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{feff}',
            '\u{2060}',
            '\u{ad}',
            '\u{e0041}',
        ] {
            assert_eq!(escape(&c.to_string()), format!("\\u{{{:x}}}", c as u32));
        }
    }

    #[test]
    fn ordinary_text_stays_and_is_not_copied() {
        for text in [
            "meet at nine",
            "Grüße, 你好, שלום, 🙂",
            "C:\\temp",
            "100 % <b>&amp;",
        ] {
            assert!(matches!(escape(text), Cow::Borrowed(t) if t == text) || text.contains('\\'));
            assert_eq!(escape(text), text);
        }
    }

    #[test]
    fn a_text_cannot_imitate_an_escape() {
        assert_ne!(escape("\\u{1b}"), escape("\u{1b}"));
        assert_ne!(escape("\\\\u{1b}"), escape("\\\u{1b}"));
        assert_eq!(escape("\\u{1b}"), "\\\\u{1b}");
    }

    #[test]
    fn a_backslash_before_an_escape_is_told_from_one_that_begins_a_text() {
        assert_eq!(escape("\\\u{1b}"), "\\\\\\u{1b}");
        assert_ne!(escape("\\\u{1b}"), escape("\\u{1b}"));
        assert_ne!(escape("\\\t"), escape("\\u{9}"));
        assert_eq!(escape_lines("\\\n"), "\\\n    ");
    }

    #[test]
    fn lines_are_kept_where_asked_and_never_begin_at_the_margin() {
        assert_eq!(
            escape_lines("a\nb\r\n\u{1b}[2J"),
            "a\n    b\\u{d}\n    \\u{1b}[2J"
        );
        assert_eq!(escape("a\nb"), "a\\u{a}b");
    }
}
