//! Who asks, as `accept` and `contacts` list it.

use hostchat_core::wire::Address;

use super::output::Output;
use crate::agent::Client;
use crate::error::Result;
use crate::model::address::hex;
use crate::model::event::RequestEvent;
use crate::model::{Asked, Event, Request};

/// The requests that wait: of one address, or of all.
pub(super) fn waiting(client: &mut Client, peer: Option<&Address>) -> Result<Vec<Request>> {
    let requests = client.vault().requests()?;
    Ok(requests
        .into_iter()
        .filter(|r| peer.is_none_or(|peer| r.from == *peer))
        .collect())
}

/// Prints them, one line for each address, identity and kind.
pub(super) fn list(client: &mut Client, requests: &[Request], output: Output) -> Result<()> {
    let groups = grouped(requests);
    for (request, count) in &groups {
        let changed = client.is_changed(request)?;
        let line = listed(request, *count, changed, &groups);
        output.event_data(&Event::Request(RequestEvent::new(request, changed)), &line)?;
    }
    Ok(())
}

fn listed(request: &Request, count: usize, changed: bool, groups: &[(&Request, usize)]) -> String {
    let mut line = request.from.to_string();
    line.push_str(match request.asked {
        Asked::First => "  first message",
        Asked::Code { .. } => "  code",
    });
    if count > 1 {
        line.push_str(&format!(" ({count} messages)"));
    }
    if changed {
        line.push_str("  identity changed");
    }
    if !request.checked {
        line.push_str("  not checked");
    }
    let rival = |other: &Request| other.from == request.from && other.identity != request.identity;
    if groups.iter().any(|(other, _)| rival(other)) {
        let fingerprint = fingerprint(request);
        let short = fingerprint.get(..16).unwrap_or_default();
        line.push_str(&format!("  identity {short}"));
    }
    line
}

/// One request for each address, identity and kind, and how many there are.
pub(super) fn grouped(requests: &[Request]) -> Vec<(&Request, usize)> {
    let mut groups: Vec<(&Request, usize)> = Vec::new();
    for request in requests {
        match groups.iter_mut().find(|(r, _)| r.is_like(request)) {
            Some((_, count)) => *count += 1,
            None => groups.push((request, 1)),
        }
    }
    groups
}

fn fingerprint(request: &Request) -> String {
    let identity = request.identity.verify().ok();
    identity.map_or_else(String::new, |identity| hex(&identity.fingerprint()))
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::{Bytes, IdentityClaim};

    use super::*;

    fn request(from: &str, identity: u8, asked: Asked, checked: bool) -> Request {
        let from = Address::parse(from).unwrap();
        Request {
            id: 1,
            sender: from.clone(),
            from,
            identity: IdentityClaim {
                sign: Bytes([identity; 32]),
                dh: Bytes([identity; 32]),
                signature: Bytes([0; 64]),
            },
            asked,
            received_at: 0,
            checked,
            stored_at: 0,
        }
    }

    #[test]
    fn requests_are_grouped_by_address_identity_and_kind() {
        let code = Asked::Code {
            sid: Bytes([1; 16]),
        };
        let all = [
            request("carol@h:1", 1, Asked::First, true),
            request("carol@h:1", 1, Asked::First, true),
            request("carol@h:1", 2, Asked::First, false),
            request("carol@h:1", 1, code, true),
            request("dave@h:1", 1, code, false),
        ];
        let groups = grouped(&all);
        let counts: Vec<_> = groups.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 1, 1]);
        let lines: Vec<_> = groups
            .iter()
            .map(|(r, n)| listed(r, *n, false, &groups))
            .collect();
        assert!(lines[0].starts_with("carol@h:1  first message (2 messages)  identity"));
        assert!(lines[1].starts_with("carol@h:1  first message  not checked  identity"));
        assert_eq!(lines[3], "dave@h:1  code  not checked");
    }
}
