//! The pages of the administration as HTML. Whatever is put into one is escaped by the template.

use maud::{DOCTYPE, Markup, html};

use super::session::Sessions;
use super::{chart, table};
use crate::admin::protocol::{Invitation, LogEntry, Status};
use crate::admin::show;
use crate::history::Sample;
use crate::limits::{INVITATIONS, Limits, mib};

/// Where the page stands in the menu.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Overview,
    Users,
    Log,
    Invitations,
    Limits,
}

const MENU: [(Place, &str, &str); 5] = [
    (Place::Overview, "/admin", "Overview"),
    (Place::Users, "/admin/users", "Users"),
    (Place::Log, "/admin/log", "Log"),
    (Place::Invitations, "/admin/invitations", "Invitations"),
    (Place::Limits, "/admin/limits", "Limits"),
];

/// What every page of a session has around it.
pub(crate) struct Frame<'a> {
    pub(crate) csrf: &'a str,
    /// Whether a log of who wrote to whom is kept.
    pub(crate) log: bool,
    /// Wall time, milliseconds since 1970.
    pub(crate) now: u64,
}

/// What the log page was asked for, as it was typed.
#[derive(Default)]
pub(crate) struct Typed<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) since: &'a str,
    pub(crate) until: &'a str,
}

fn document(title: &str, inside: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " - hostchat relay" }
                link rel="stylesheet" href="/admin/style.css";
            }
            body {
                (inside)
                footer {
                    "Nothing here can be decrypted: messages reach this relay sealed, and it has no key to any of them. "
                    "It shows names, counts, sizes and times only."
                }
            }
        }
    }
}

/// A page with the menu, for who is logged in.
pub(crate) fn page(frame: &Frame<'_>, place: Place, inside: &Markup) -> Markup {
    let title = MENU.iter().find(|(p, ..)| *p == place).map_or("", |m| m.2);
    let shown = MENU
        .iter()
        .filter(|(at, ..)| frame.log || *at != Place::Log);
    let whole = html! {
        header {
            strong { "hostchat relay" }
            nav aria-label="Pages" {
                @for (at, path, name) in shown {
                    @if *at == place { a href=(path) aria-current="page" { (name) } }
                    @else { a href=(path) { (name) } }
                }
            }
            form method="post" action="/admin/logout" { (hidden(frame.csrf)) button { "Log out" } }
        }
        main {
            h1 { (title) }
            p.muted { "As of " (show::time(frame.now)) }
            (inside)
        }
    };
    document(title, &whole)
}

/// The form to log in, with what was wrong the last time.
pub(crate) fn login(wrong: Option<&str>) -> Markup {
    let inside = html! {
        main {
            h1 { "hostchat relay" }
            @if let Some(wrong) = wrong { p.note role="alert" { (wrong) } }
            form method="post" action="/admin/login" {
                label {
                    "Operator's password"
                    input type="password" name="password" required autofocus autocomplete="current-password";
                }
                " " button { "Log in" }
            }
        }
    };
    document("Log in", &inside)
}

pub(crate) fn note(text: &str) -> Markup {
    html! { p.note role="status" { (text) } }
}

pub(crate) fn overview(status: &Status, limits: &Limits, samples: &[Sample]) -> Markup {
    let count = show::count;
    html! {
        table.facts {
            tr { th scope="row" { "Address for users" } td { code { (status.address) } } }
            @if status.names.len() > 1 {
                tr { th scope="row" { "Dialled as" } td { (status.names.join(", ")) } }
            }
            tr { th scope="row" { "Software" } td { (status.software) ", running for " (show::duration(status.uptime_ms)) } }
            tr { th scope="row" { "Accounts" } td { (count(status.accounts)) ", registration " (status.registration) ", guests " (yes_no(status.guests)) } }
            tr { th scope="row" { "Logged in" } td { (count(status.logged_in)) " connections" } }
            tr { th scope="row" { "Waiting messages" } td { (count(status.messages)) } }
            tr { th scope="row" { "Since the start" } td {
                "stored " (count(status.stored)) " (" (show::size(status.stored_bytes)) "), delivered "
                (count(status.delivered)) " (" (show::size(status.delivered_bytes)) ")"
            } }
            tr { th scope="row" { "Free on the disk" } td {
                (status.disk_free_bytes.map_or("unknown".to_owned(), show::size))
                "; no more messages below " (show::size(mib(limits.disk_floor_mib)))
            } }
            tr { th scope="row" { "Writes waiting" } td { (count(status.waiting_writes)) } }
            tr { th scope="row" { "Log of who wrote to whom" } td { (log_state(status.log_days)) } }
        }
        h2 { "Usage against limits" }
        table.facts {
            (table::usage("Connections", status.connections, limits.connections as u64, show::count))
            @if let Some(bytes) = status.database_bytes {
                (table::usage("Database with its write-ahead log", bytes, mib(limits.database_mib), show::size))
            }
            (table::usage("Files", status.file_bytes, mib(limits.blobs_mib), show::size))
            (table::usage("Invitations", status.invitations, INVITATIONS as u64, show::count))
        }
        h2 { "Traffic" }
        (chart::traffic(samples))
        h2 { "Storage" }
        (chart::storage(samples))
    }
}

fn log_state(days: u16) -> String {
    match days {
        0 => "off".to_owned(),
        days => format!("on, kept for {days} days"),
    }
}

pub(crate) fn log(typed: &Typed<'_>, entries: &[LogEntry], more: bool, days: u16) -> Markup {
    html! {
        p { "Kept for " (days) " days, newest first. Times are UTC." }
        form.filter method="get" action="/admin/log" {
            label { "Sender" input name="from" value=(typed.from); }
            label { "Receiver" input name="to" value=(typed.to); }
            label { "Since (90m, 7d, or a time)" input name="since" value=(typed.since); }
            label { "Until" input name="until" value=(typed.until); }
            button { "Show" }
        }
        @if entries.is_empty() { p { "No entries." } }
        @else {
            table.cards.dense {
                thead { tr { th { "Time" } th { "From" } th { "To" } th { "Kind" } th.number { "Size" } } }
                tbody {
                    @for entry in entries {
                        tr {
                            td.time data-label="Time" { (show::time(entry.at)) }
                            td data-label="From" { (entry.from) }
                            td data-label="To" { (entry.to) }
                            td data-label="Kind" { (entry.kind) }
                            td.number data-label="Size" { (show::size(entry.bytes)) }
                        }
                    }
                }
            }
        }
        @if let Some(last) = entries.last().filter(|_| more) {
            @let before = format!("{}-{}", last.at, last.number);
            p { a href=(link("/admin/log", &[
                ("from", typed.from), ("to", typed.to), ("since", typed.since), ("until", typed.until), ("before", &before),
            ])) { "Older" } }
        }
    }
}

/// The invitations; the words of a new one are shown this once.
pub(crate) fn invitations(
    invitations: &[Invitation],
    sort: table::Sort<'_>,
    new: Option<&str>,
    csrf: &str,
) -> Markup {
    let head = |key, name, class| sort.head("/admin/invitations", key, name, class);
    html! {
        @if let Some(words) = new {
            div.note role="status" {
                p { "A new invitation. It is shown only now: the relay keeps its hash alone." }
                p.words { (words) }
            }
        }
        form.filter method="post" action="/admin/invite" {
            (hidden(csrf))
            label { "Accounts it is good for" input name="uses" type="number" min="1" max="100000" value="1" required; }
            label { "Ends after days (empty: never)" input name="days" type="number" min="1" max="65535"; }
            label { "Note for yourself" input name="note" maxlength="100" autocomplete="off"; }
            button { "Make an invitation" }
        }
        @if invitations.is_empty() { p { "No invitation can be used." } }
        @else {
            table.cards.sorted {
                thead { tr {
                    th.plain { "Id" }
                    (head("made", "Made", "")) (head("ends", "Ends", "")) (head("uses", "Uses left", "number")) (head("note", "Note", ""))
                    th.plain {}
                } }
                tbody {
                    @for invitation in invitations {
                        tr {
                            td data-label="Id" { (invitation.id) }
                            td.time data-label="Made" { (show::time(invitation.created_at)) }
                            td.time data-label="Ends" { (invitation.expires_at.map_or("never".to_owned(), show::time)) }
                            td.number data-label="Uses left" { (show::count(invitation.uses_left.into())) }
                            td data-label="Note" { (invitation.note) }
                            td {
                                form method="post" action="/admin/withdraw" {
                                    (hidden(csrf))
                                    input type="hidden" name="id" value=(invitation.id);
                                    button { "Withdraw" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(crate) fn limits(limits: &Limits) -> Markup {
    html! {
        p { "They stand in [limits] of relay.toml and are read at the start." }
        table.facts.limits {
            @for (name, value) in show::limits(limits) {
                tr { th scope="row" { (name) } td { (value) } }
            }
        }
    }
}

pub(super) fn hidden(csrf: &str) -> Markup {
    html! { input type="hidden" name=(Sessions::FIELD) value=(csrf); }
}

pub(super) fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// A path with a query, encoded.
pub(super) fn link(path: &str, fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
    format!("{path}?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_shown_is_escaped() {
        let evil = "\"'><script>alert(1)</script>&";
        let entry = LogEntry {
            at: 0,
            number: 1,
            from: evil.to_owned(),
            to: evil.to_owned(),
            kind: evil.to_owned(),
            bytes: 1,
        };
        let typed = Typed {
            from: evil,
            to: evil,
            since: evil,
            until: evil,
        };
        let invitation = Invitation {
            id: evil.to_owned(),
            created_at: 0,
            uses_left: 1,
            note: evil.to_owned(),
            expires_at: None,
        };
        let frame = Frame {
            csrf: evil,
            log: true,
            now: 0,
        };
        let sort = table::Sort {
            key: evil,
            down: true,
        };
        for shown in [
            log(&typed, &[entry], true, 1),
            invitations(&[invitation], sort, Some(evil), evil),
            page(&frame, Place::Log, &note(evil)),
            login(Some(evil)),
        ] {
            let text = shown.into_string();
            assert!(text.contains("&lt;script&gt;"), "{text}");
            assert!(
                !text.contains("<script") && !text.contains("\"'>"),
                "{text}"
            );
        }
    }
}
