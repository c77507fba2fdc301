//! The pages of the administration as HTML. Whatever is put into one is escaped by the template.

use maud::{DOCTYPE, Markup, html};

use super::session::Sessions;
use crate::admin::protocol::{Invitation, LogEntry, Status, User};
use crate::admin::show;
use crate::limits::Limits;

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
pub(crate) fn page(place: Place, csrf: &str, inside: &Markup) -> Markup {
    let title = MENU.iter().find(|(p, ..)| *p == place).map_or("", |m| m.2);
    let whole = html! {
        header {
            strong { "hostchat relay" }
            nav {
                @for (at, path, name) in MENU {
                    @if at == place { a href=(path) aria-current="page" { (name) } }
                    @else { a href=(path) { (name) } }
                }
            }
            form method="post" action="/admin/logout" { (hidden(csrf)) button { "Log out" } }
        }
        main { h1 { (title) } (inside) }
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

pub(crate) fn overview(status: &Status) -> Markup {
    let size = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), show::size);
    html! {
        table {
            tr { th { "Dialled as" } td { (status.names.join(" ")) } }
            tr { th { "Software" } td { (status.software) ", running for " (show::duration(status.uptime_ms)) } }
            tr { th { "Connections" } td { (status.connections) ", of which logged in " (status.logged_in) } }
            tr { th { "Accounts" } td { (status.accounts) ", registration " (status.registration) ", guests " (yes_no(status.guests)) } }
            tr { th { "Waiting messages" } td { (status.messages) } }
            tr { th { "Files" } td { (status.files) " (" (show::size(status.file_bytes)) ")" } }
            tr { th { "Since the start" } td {
                "stored " (status.stored) " (" (show::size(status.stored_bytes)) "), delivered "
                (status.delivered) " (" (show::size(status.delivered_bytes)) ")"
            } }
            tr { th { "Writes waiting" } td { (status.waiting_writes) } }
            tr { th { "Database" } td { (size(status.database_bytes)) ", free on the disk " (size(status.disk_free_bytes)) } }
            tr { th { "Log of who wrote to whom" } td { (log_state(status.log_days)) } }
        }
        h2 { "Traffic" }
        img src="/admin/traffic.svg" width="868" height="230" alt="Messages stored and delivered during the last day";
        h2 { "Storage" }
        img src="/admin/storage.svg" width="868" height="230" alt="Size of the database during the last day";
    }
}

fn log_state(days: u16) -> String {
    match days {
        0 => "off".to_owned(),
        days => format!("on, kept for {days} days"),
    }
}

pub(crate) fn users(users: &[User], more: bool) -> Markup {
    html! {
        (user_table(users))
        @if let Some(last) = users.last().filter(|_| more) {
            p { a href=(link("/admin/users", &[("after", last.name.as_str())])) { "More" } }
        }
    }
}

fn user_table(users: &[User]) -> Markup {
    html! {
        table {
            tr {
                th { "Name" } th { "Online" } th { "Shown to others" } th { "Registered" }
                th.number { "Waiting" } th.number { "Size" } th.number { "Prekeys left" }
                th.number { "Files" } th.number { "Size of files" }
            }
            @for user in users {
                tr {
                    td { a href=(link("/admin/user", &[("name", user.name.as_str())])) { (user.name) } }
                    td { @if user.connections == 0 { "no" } @else { "yes (" (user.connections) ")" } }
                    td { (yes_no(user.visible)) }
                    td.time { (show::time(user.registered_at)) }
                    td.number { (user.messages) }
                    td.number { (show::size(user.bytes)) }
                    td.number { (user.one_time_prekeys) }
                    td.number { (user.files) }
                    td.number { (show::size(user.file_bytes)) }
                }
            }
        }
    }
}

/// One account and its removal, for which the name has to be typed.
pub(crate) fn user(user: &User, csrf: &str) -> Markup {
    html! {
        (user_table(std::slice::from_ref(user)))
        p {
            a href=(link("/admin/log", &[("from", user.name.as_str())])) { "Sent" } " and "
            a href=(link("/admin/log", &[("to", user.name.as_str())])) { "received" } " messages in the log"
        }
        div.danger {
            h2 { "Remove " (user.name) }
            p { "Deletes the account with its mailbox, prekeys and files, for ever, and closes its connections. Others may register the name afterwards." }
            form method="post" action="/admin/remove" {
                (hidden(csrf))
                input type="hidden" name="name" value=(user.name);
                label { "Type the name again" input name="again" required autocomplete="off"; }
                " " button { "Remove" }
            }
        }
    }
}

pub(crate) fn log(typed: &Typed<'_>, entries: &[LogEntry], more: bool, days: u16) -> Markup {
    html! {
        p { "Kept for " (days) " days. Times are UTC." }
        form.filter method="get" action="/admin/log" {
            label { "Sender" input name="from" value=(typed.from); }
            label { "Receiver" input name="to" value=(typed.to); }
            label { "Since (90m, 7d, or a time)" input name="since" value=(typed.since); }
            label { "Until" input name="until" value=(typed.until); }
            button { "Show" }
        }
        table {
            tr { th { "Time" } th { "From" } th { "To" } th { "Kind" } th.number { "Size" } }
            @for entry in entries {
                tr {
                    td.time { (show::time(entry.at)) }
                    td { (entry.from) }
                    td { (entry.to) }
                    td { (entry.kind) }
                    td.number { (show::size(entry.bytes)) }
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
pub(crate) fn invitations(invitations: &[Invitation], new: Option<&str>, csrf: &str) -> Markup {
    html! {
        @if let Some(words) = new {
            div.note role="status" {
                p { "A new invitation. It is shown only now: the relay keeps its hash alone." }
                p.words { (words) }
            }
        }
        form.filter method="post" action="/admin/invite" {
            (hidden(csrf))
            label { "Accounts that may be registered with it" input name="uses" type="number" min="1" max="100000" value="1"; }
            button { "Make an invitation" }
        }
        table {
            tr { th { "Id" } th { "Made" } th.number { "Uses left" } th {} }
            @for invitation in invitations {
                tr {
                    td { (invitation.id) }
                    td.time { (show::time(invitation.created_at)) }
                    td.number { (invitation.uses_left) }
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

pub(crate) fn limits(limits: &Limits) -> Markup {
    html! {
        p { "They stand in [limits] of relay.toml and are read at the start." }
        table {
            @for (name, value) in show::limits(limits) {
                tr { th { (name) } td { (value) } }
            }
        }
    }
}

fn hidden(csrf: &str) -> Markup {
    html! { input type="hidden" name=(Sessions::FIELD) value=(csrf); }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// A path with a query, encoded.
fn link(path: &str, fields: &[(&str, &str)]) -> String {
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
        };
        for shown in [
            log(&typed, &[entry], true, 1),
            invitations(&[invitation], Some(evil), evil),
            page(Place::Log, evil, &note(evil)),
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
