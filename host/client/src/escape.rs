//! Text from outside, made safe for a terminal.
//!
//! Invariant: what [`escape`] returns holds no control character, no character that changes the direction of text, and
//! none that is invisible; each of these is shown as `\u{..}`. Only a joiner stays where it belongs to the spelling: between
//! letters of a script that needs it, and within an emoji. A backslash that could begin such a form, or stands before
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
    let mut before = None;
    while let Some(c) = rest.next() {
        let joins = is_joiner(c) && joins(before, c, rest.peek().copied());
        before = Some(c);
        if joins {
            out.push(c);
        } else if bad(c) {
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

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a joiner belongs to the spelling of what stands around it: Persian, Hindi and many others need it between letters
/// (RFC 5892, appendix A), and one that joins two emoji makes them one.
fn joins(before: Option<char>, joiner: char, after: Option<char>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    let ends_emoji = is_emoji(before) || matches!(before, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    has_joiners(before) && has_joiners(after)
        || joiner == '\u{200d}' && ends_emoji && is_emoji(after)
}

/// A letter or vowel sign of a script that is written with joiners: Arabic, Syriac, N'Ko and their neighbours, the scripts of
/// India, Sinhala, Burmese, Khmer, Mongolian.
fn has_joiners(c: char) -> bool {
    let block = matches!(
        c,
        '\u{620}'..='\u{8ff}'
            | '\u{900}'..='\u{dff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17d3}'
            | '\u{1820}'..='\u{18aa}'
            | '\u{fb50}'..='\u{fdff}'
            | '\u{fe70}'..='\u{fefc}'
    );
    block && !c.is_numeric() && !is_hostile(c)
}

fn is_emoji(c: char) -> bool {
    matches!(
        c,
        '\u{2190}'..='\u{21ff}'
            | '\u{2300}'..='\u{23ff}'
            | '\u{2600}'..='\u{27bf}'
            | '\u{2b00}'..='\u{2bff}'
            | '\u{1f000}'..='\u{1faff}'
    )
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
    fn joiners_stay_where_they_belong_to_the_spelling_and_only_there() {
        for text in [
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ශ්\u{200d}රී",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}",
            "\u{1f469}\u{1f3fd}\u{200d}\u{1f680}",
            "\u{2764}\u{fe0f}\u{200d}\u{1f525}",
        ] {
            assert_eq!(escape(text), text);
        }
        for text in [
            "a\u{200d}b",
            "\u{200d}",
            "x \u{200c} y",
            "می\u{200c}\u{200c}خواهم",
            "م\u{200c}",
            "\u{200d}م",
            "م\u{200d}a",
            "\u{1f468}\u{200d}",
            "\u{1f468}\u{200c}\u{1f469}",
            "\u{1f468}\u{200d}\u{200d}\u{1f469}",
            "٣\u{200d}٤",
            "\\\u{200d}م",
        ] {
            let shown = escape(text);
            assert!(
                shown.contains("\\u{200") && !shown.chars().any(is_joiner),
                "{shown}"
            );
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
