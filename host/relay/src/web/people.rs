//! The pages of the accounts: all of them in any order, and one with what can be done to it.

use std::cmp::Ordering;

use maud::{Markup, html};

use super::pages::{hidden, link, yes_no};
use super::table::{Sort, usage};
use crate::admin::protocol::User;
use crate::admin::{Scan, show};
use crate::limits::{Limits, mib};

const PATH: &str = "/admin/users";

/// Compares two accounts by a column; `None` for one that there is not. Equal ones stand in the order of their names.
pub(crate) fn order(key: &str) -> Option<fn(&User, &User) -> Ordering> {
    Some(match key {
        "name" => |a, b| a.name.cmp(&b.name),
        "online" => |a, b| a.connections.cmp(&b.connections),
        "seen" => |a, b| a.last_seen.cmp(&b.last_seen),
        "registered" => |a, b| a.registered_at.cmp(&b.registered_at),
        "state" => |a, b| a.suspended.cmp(&b.suspended),
        "waiting" => |a, b| a.messages.cmp(&b.messages),
        "size" => |a, b| a.bytes.cmp(&b.bytes),
        "prekeys" => |a, b| a.one_time_prekeys.cmp(&b.one_time_prekeys),
        "files" => |a, b| a.files.cmp(&b.files),
        "filesize" => |a, b| a.file_bytes.cmp(&b.file_bytes),
        _ => return None,
    })
}

/// A page of accounts in the order of their names.
pub(crate) fn users(users: &[User], more: bool) -> Markup {
    let by_name = Sort {
        key: "name",
        down: false,
    };
    html! {
        (user_table(users, by_name))
        @if let Some(last) = users.last().filter(|_| more) {
            p { a href=(link(PATH, &[("after", last.name.as_str())])) { "More" } }
        }
    }
}

/// The first accounts in another order.
pub(crate) fn sorted(scan: &Scan, sort: Sort<'_>) -> Markup {
    html! {
        @if scan.looked_at > scan.users.len() as u64 {
            p { "The first " (scan.users.len()) " of " (show::count(scan.looked_at)) " accounts in this order." }
        }
        @if !scan.all {
            p.note { "There are too many accounts to sort: only the first " (show::count(scan.looked_at)) " by name were looked at." }
        }
        (user_table(&scan.users, sort))
    }
}

fn user_table(users: &[User], sort: Sort<'_>) -> Markup {
    let head = |key, name, class| sort.head(PATH, key, name, class);
    html! {
        table.cards.sorted.dense {
            thead { tr {
                (head("name", "Name", "")) (head("state", "State", "")) (head("online", "Online", ""))
                (head("seen", "Last seen", "")) (head("registered", "Registered", ""))
                (head("waiting", "Waiting", "number")) (head("size", "Size", "number"))
                (head("prekeys", "Prekeys left", "number"))
                (head("files", "Files", "number")) (head("filesize", "Size of files", "number"))
            } }
            tbody {
                @for user in users {
                    tr {
                        td data-label="Name" { a href=(link("/admin/user", &[("name", user.name.as_str())])) { (user.name) } }
                        td data-label="State" { (state(user)) }
                        td data-label="Online" { (online(user)) }
                        td.time data-label="Last seen" { (seen(user)) }
                        td.time data-label="Registered" { (show::date(user.registered_at)) }
                        td.number data-label="Waiting" { (show::count(user.messages)) }
                        td.number data-label="Size" { (show::size(user.bytes)) }
                        td.number data-label="Prekeys left" { (user.one_time_prekeys) }
                        td.number data-label="Files" { (user.files) }
                        td.number data-label="Size of files" { (show::size(user.file_bytes)) }
                    }
                }
            }
        }
    }
}

fn state(user: &User) -> Markup {
    html! { @if user.suspended { span.state { "suspended" } } @else { "active" } }
}

fn online(user: &User) -> String {
    match user.connections {
        0 => "no".to_owned(),
        n => format!("yes ({n})"),
    }
}

fn seen(user: &User) -> &str {
    user.last_seen.as_deref().unwrap_or("unknown")
}

/// One account, its suspension, and its removal, for which the name has to be typed.
pub(crate) fn user(user: &User, limits: &Limits, log: bool, csrf: &str) -> Markup {
    let name = user.name.as_str();
    html! {
        h2 { (name) }
        table.facts {
            tr { th scope="row" { "State" } td { (state(user)) } }
            tr { th scope="row" { "Online" } td { (online(user)) } }
            tr { th scope="row" { "Last seen" } td { (seen(user)) } }
            tr { th scope="row" { "Registered" } td { (show::time(user.registered_at)) } }
            tr { th scope="row" { "Shown to others" } td { (yes_no(user.visible)) } }
            tr { th scope="row" { "One-time prekeys left" } td { (user.one_time_prekeys) } }
            (usage("Connections", user.connections, limits.connections_per_account as u64, show::count))
            (usage("Waiting messages", user.messages, limits.mailbox_messages.into(), show::count))
            (usage("Their size", user.bytes, mib(limits.mailbox_mib), show::size))
            (usage("Files", user.files, limits.account_blobs.into(), show::count))
            (usage("Size of files", user.file_bytes, mib(limits.account_blobs_mib), show::size))
        }
        @if log {
            p {
                a href=(link("/admin/log", &[("from", name)])) { "Sent" } " and "
                a href=(link("/admin/log", &[("to", name)])) { "received" } " messages in the log"
            }
        }
        @if user.suspended {
            form method="post" action="/admin/resume" {
                (hidden(csrf))
                input type="hidden" name="name" value=(name);
                p { "Suspended: the owner cannot log in, and is told so. What others send waits." }
                button { "Let " (name) " log in again" }
            }
        } @else {
            form method="post" action="/admin/suspend" {
                (hidden(csrf))
                input type="hidden" name="name" value=(name);
                p { "Suspending closes all connections, and the owner cannot log in until you undo it. Nothing is deleted, and what others send waits." }
                button { "Suspend " (name) }
            }
        }
        div.danger {
            h2 { "Remove " (name) }
            p { "Deletes the account with its mailbox, prekeys and files, for ever, and closes its connections. Others may register the name afterwards." }
            form method="post" action="/admin/remove" {
                (hidden(csrf))
                input type="hidden" name="name" value=(name);
                label { "Type the name again" input name="again" required autocomplete="off"; }
                " " button { "Remove" }
            }
        }
    }
}
