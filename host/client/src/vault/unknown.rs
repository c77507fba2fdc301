//! A message of a kind that this version does not know: it is kept as a text that nobody can write.

use hostchat_core::wire::content::MAX_TEXT;

use super::Message;

const LONGER: [u8; MAX_TEXT + 1] = [b'?'; MAX_TEXT + 1];

/// Stands in the vault for what cannot be shown. It is one byte longer than a text may be, so that no peer can send it.
pub const UNKNOWN: &str = match std::str::from_utf8(&LONGER) {
    Ok(text) => text,
    Err(_) => "",
};

impl Message {
    /// Whether this is a message of a kind that is not known here; its text says nothing then.
    pub fn is_unknown(&self) -> bool {
        self.text.as_str() == UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::{Bytes, Content, MAX_CONTENT, codec};

    use super::*;

    #[test]
    fn no_content_that_decodes_is_the_text_for_what_is_unknown() {
        assert_eq!(UNKNOWN.len(), MAX_TEXT + 1);
        let content = Content::Text {
            id: Bytes([1; 16]),
            sent_at: 1,
            text: UNKNOWN,
        };
        let encoded = codec::encode_vec::<_, MAX_CONTENT>(&content).unwrap();
        assert!(codec::decode::<Content<'_>>(&encoded).is_err());
    }
}
