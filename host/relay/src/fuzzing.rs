//! Decoders that only this crate sees, for fuzzing.

use crate::web::request::Request;

/// Parses the head of a browser's request, and what a page looks at in it. Gives its size if it is whole.
///
/// # Panics
/// If a head is longer than what was given, or what it holds depends on what stands behind it.
pub fn browser_head(bytes: &[u8]) -> Option<usize> {
    let (size, request) = Request::try_parse(bytes).ok().flatten()?;
    assert!(size <= bytes.len(), "a head of {size} bytes");
    let again = bytes.get(..size).map(Request::try_parse);
    let same = |(again_size, again): &(usize, Request)| {
        *again_size == size
            && again.path == request.path
            && again.cookie() == request.cookie()
            && again.is_foreign() == request.is_foreign()
    };
    assert!(
        matches!(&again, Some(Ok(Some(again))) if same(again)),
        "another head without what stands behind it"
    );
    let query = request.query();
    assert!(!request.path.contains('?'));
    for name in ["host", "origin", "content-length", "name", "csrf"] {
        let _ = (request.header(name), query.field(name));
    }
    Some(size)
}
