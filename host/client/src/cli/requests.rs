//! Who asks, as `accept` and `contacts` list it.

use super::output::Output;
use crate::error::Result;
use crate::model::Event;
use crate::model::answer::RequestEntry;
use crate::model::event::{RequestEvent, RequestKind};

/// Prints them, one line for each address, identity and kind.
pub(super) fn list(requests: &[RequestEntry], output: Output) -> Result<()> {
    let groups = grouped(requests);
    for (request, count) in &groups {
        let line = listed(&request.request, *count, &groups);
        output.event_data(&Event::Request(request.request.clone()), &line)?;
    }
    Ok(())
}

fn listed(request: &RequestEvent, count: usize, groups: &[(&RequestEntry, usize)]) -> String {
    let mut line = request.peer.to_string();
    line.push_str(match request.kind {
        RequestKind::First => "  first message",
        RequestKind::Code => "  code",
    });
    if count > 1 {
        line.push_str(&format!(" ({count} messages)"));
    }
    if request.changed {
        line.push_str("  identity changed");
    }
    if !request.checked {
        line.push_str("  not checked");
    }
    let rival = |other: &RequestEvent| {
        other.peer == request.peer && other.fingerprint != request.fingerprint
    };
    if groups.iter().any(|(other, _)| rival(&other.request)) {
        let short = request.fingerprint.get(..16).unwrap_or_default();
        line.push_str(&format!("  identity {short}"));
    }
    line
}

/// One request for each address, identity and kind, and how many there are.
pub(super) fn grouped(requests: &[RequestEntry]) -> Vec<(&RequestEntry, usize)> {
    let mut groups: Vec<(&RequestEntry, usize)> = Vec::new();
    for entry in requests {
        let is_like = |other: &RequestEvent| {
            let request = &entry.request;
            (&other.peer, &other.fingerprint, other.kind)
                == (&request.peer, &request.fingerprint, request.kind)
        };
        match groups.iter_mut().find(|(r, _)| is_like(&r.request)) {
            Some((_, count)) => *count += 1,
            None => groups.push((entry, 1)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::Address;

    use super::*;

    fn entry(from: &str, identity: &str, kind: RequestKind, checked: bool) -> RequestEntry {
        RequestEntry {
            id: 1,
            request: RequestEvent {
                peer: Address::parse(from).unwrap(),
                kind,
                changed: false,
                checked,
                fingerprint: identity.repeat(64),
                received_at: 0,
                stored_at: 0,
            },
        }
    }

    #[test]
    fn requests_are_grouped_by_address_identity_and_kind() {
        let all = [
            entry("carol@h:1", "1", RequestKind::First, true),
            entry("carol@h:1", "1", RequestKind::First, true),
            entry("carol@h:1", "2", RequestKind::First, false),
            entry("carol@h:1", "1", RequestKind::Code, true),
            entry("dave@h:1", "1", RequestKind::Code, false),
        ];
        let groups = grouped(&all);
        let counts: Vec<_> = groups.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 1, 1]);
        let lines: Vec<_> = groups
            .iter()
            .map(|(r, n)| listed(&r.request, *n, &groups))
            .collect();
        assert!(lines[0].starts_with("carol@h:1  first message (2 messages)  identity"));
        assert!(lines[1].starts_with("carol@h:1  first message  not checked  identity"));
        assert_eq!(lines[3], "dave@h:1  code  not checked");
    }
}
