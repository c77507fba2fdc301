//! The admin page on the operator's listener: HTML from the relay, no script, one style sheet, nothing from elsewhere.
//!
//! ```text
//!  request ── path under /admin ── a password is set? ── session by cookie? ── GET: page
//!                                                               │             POST: csrf field, then the change
//!                                                               └ no: the form to log in (guesses take turns)
//! ```
//!
//! It does what the administration socket does, by the same calls, and like it shows no content and no key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hostchat_core::wire::Name;
use maud::Markup;
use zeroize::Zeroizing;

use crate::admin::protocol::{LogQuery, Refused};
use crate::admin::{self, show};
use crate::server::Relay;

mod chart;
mod pages;
pub(crate) mod password;
mod people;
pub(crate) mod request;
pub(crate) mod session;
#[cfg(test)]
mod style;
mod table;

use pages::{Frame, Place, Typed};
use password::Hash;
use request::{Fields, Request};
use session::{COOKIE, Sessions};
use table::Sort;

/// The first page.
pub(crate) const ROOT: &str = "/admin";
/// Where all others begin.
pub(crate) const BELOW: &str = "/admin/";

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const STYLE: &str = include_str!("style.css");

/// Sent with everything here. Only our own style and pictures are loaded, forms come back here, nothing is framed or kept.
/// With `no-referrer` browsers would send `Origin: null` with our own forms, which are then refused as foreign.
pub(crate) const HEADERS: &str = "Content-Security-Policy: default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: same-origin\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Cache-Control: no-store\r\n";

/// What the page remembers between requests.
pub(crate) struct Web {
    password: PathBuf,
    sessions: Sessions,
}

/// An answer, still without [`HEADERS`].
pub(crate) struct Response {
    pub(crate) status: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Web {
    pub(crate) fn new(password: PathBuf) -> Self {
        Self {
            password,
            sessions: Sessions::default(),
        }
    }
}

impl Response {
    fn new(status: &'static str, kind: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            headers: String::new(),
            body: body.into(),
        }
    }

    fn page(status: &'static str, page: Markup) -> Self {
        Self::new(status, HTML, page.into_string())
    }

    fn redirect(to: &str) -> Self {
        let mut response = Self::new("303 See Other", TEXT, "");
        response.headers = format!("Location: {to}\r\n");
        response
    }

    fn with_cookie(mut self, value: &str, more: &str) -> Self {
        let cookie = format!("{COOKIE}={value}; Path=/admin; HttpOnly; SameSite=Strict{more}");
        self.headers.push_str(&format!("Set-Cookie: {cookie}\r\n"));
        self
    }
}

/// Answers a request for a path under `/admin`; `form` is there if it is a POST.
pub(crate) async fn answer(
    relay: &Arc<Relay>,
    peer: SocketAddr,
    request: &Request,
    form: Option<&Fields>,
) -> Response {
    let hash = match Hash::load(&relay.web.password) {
        Ok(Some(hash)) => hash,
        Ok(None) => {
            let hint =
                "no admin page: set a password with hostchat-relay admin --dir DIR password\n";
            return Response::new("404 Not Found", TEXT, hint);
        }
        Err(error) => {
            let error = crate::words::io(&error);
            tracing::error!(error, "the operator's password cannot be read");
            let why = "the password file cannot be read\n";
            return Response::new("500 Internal Server Error", TEXT, why);
        }
    };
    if form.is_some() && request.is_foreign() {
        return Response::new("403 Forbidden", TEXT, "a form of another site\n");
    }
    let now = relay.clock.uptime_ms();
    let cookie = request.cookie().unwrap_or_default();
    let csrf = relay.web.sessions.csrf(cookie, hash.id(), now);
    match (request.path.as_str(), form, csrf) {
        ("/admin/style.css", None, _) => Response::new("200 OK", CSS, STYLE),
        ("/admin/login", None, Some(_)) => Response::redirect("/admin"),
        ("/admin/login", None, None) => Response::page("200 OK", pages::login(None)),
        ("/admin/login", Some(form), _) => log_in(relay, peer, hash, form).await,
        (_, None, None) => Response::redirect("/admin/login"),
        (_, Some(_), None) => {
            let again = "You are not logged in any more, and nothing was changed.";
            Response::page("403 Forbidden", pages::login(Some(again)))
        }
        (path, None, Some(csrf)) => show(relay, path, &request.query(), &csrf).await,
        (path, Some(form), Some(csrf)) => {
            if !session::same(&csrf, form.field(Sessions::FIELD)) {
                return Response::new("403 Forbidden", TEXT, "a form of another session\n");
            }
            change(relay, path, form, &csrf, cookie).await
        }
    }
}

async fn log_in(relay: &Arc<Relay>, peer: SocketAddr, hash: Hash, form: &Fields) -> Response {
    let sessions = &relay.web.sessions;
    let network = request::network(peer);
    let admitted = match sessions.admit(network, &*relay.clock).await {
        Ok(admitted) => admitted,
        Err(ms) => {
            let wrong = "Too many are trying to log in. Try again in a few seconds.";
            let page = pages::login(Some(wrong));
            let mut response = Response::page("429 Too Many Requests", page);
            response.headers = format!("Retry-After: {}\r\n", ms.div_ceil(1000));
            return response;
        }
    };
    let id = hash.id();
    let typed = Zeroizing::new(form.field("password").as_bytes().to_vec());
    let Ok(one) = Arc::clone(&sessions.hashing).acquire_owned().await else {
        return Response::new("503 Service Unavailable", TEXT, "shutting down\n");
    };
    let hashing = move || {
        let matches = hash.matches(&typed);
        drop(one);
        matches
    };
    let matches = tokio::task::spawn_blocking(hashing).await;
    if !matches!(matches, Ok(true)) {
        tracing::warn!(peer = %peer.ip(), "wrong password on the admin page");
        let wrong = "That is not the password.";
        return Response::page("403 Forbidden", pages::login(Some(wrong)));
    }
    tracing::info!(peer = %peer.ip(), "logged in on the admin page");
    sessions.was_right(network, admitted);
    match sessions.begin(id, relay.clock.uptime_ms()) {
        Ok(token) => Response::redirect("/admin").with_cookie(&token, ""),
        Err(_) => Response::new("500 Internal Server Error", TEXT, "no random numbers\n"),
    }
}

/// What every page of this session has around it.
fn frame<'a>(relay: &Relay, csrf: &'a str) -> Frame<'a> {
    Frame {
        csrf,
        log: relay.audit.log_days > 0,
        now: relay.clock.wall_ms(),
    }
}

/// The pages that change nothing.
async fn show(relay: &Relay, path: &str, query: &Fields, csrf: &str) -> Response {
    let frame = frame(relay, csrf);
    let ok = |place, inside: Markup| Response::page("200 OK", pages::page(&frame, place, &inside));
    let done = match path {
        "/admin" | "/admin/" => admin::status(relay).await.map(|status| {
            let samples = relay.history.until_now(relay);
            let inside = pages::overview(&status, &relay.limits, &samples);
            ok(Place::Overview, inside)
        }),
        "/admin/users" => users(relay, query)
            .await
            .map(|inside| ok(Place::Users, inside)),
        "/admin/user" => match Name::parse(query.field("name")) {
            Ok(name) => admin::user(relay, name).await.map(|user| {
                let inside = people::user(&user, &relay.limits, frame.log, csrf);
                ok(Place::Users, inside)
            }),
            Err(_) => Err(Refused::UnknownName),
        },
        "/admin/log" => log(relay, query).await.map(|inside| ok(Place::Log, inside)),
        "/admin/invitations" => {
            let inside = invitations(relay, Sort::of(query), None, csrf).await;
            inside.map(|inside| ok(Place::Invitations, inside))
        }
        "/admin/limits" => Ok(ok(Place::Limits, pages::limits(&relay.limits))),
        _ => return Response::new("404 Not Found", TEXT, "no such page\n"),
    };
    let place = match path {
        "/admin/log" => Place::Log,
        "/admin/user" | "/admin/users" => Place::Users,
        _ => Place::Overview,
    };
    done.unwrap_or_else(|refused| refusal(&frame, place, refused))
}

/// All accounts by name, a page at a time, or the first ones in another order.
async fn users(relay: &Relay, query: &Fields) -> Result<Markup, Refused> {
    let sort = Sort::of(query);
    match people::order(sort.key) {
        Some(order) if sort.down || sort.key != "name" => {
            let scan = admin::users_by(relay, |a, b| sort.apply(order(a, b))).await?;
            Ok(people::sorted(&scan, sort))
        }
        _ => {
            let after = Name::parse(query.field("after")).ok();
            let (users, more) = admin::users(relay, after).await?;
            Ok(people::users(&users, more))
        }
    }
}

/// The invitations in the order asked for, with the words of a new one.
async fn invitations(
    relay: &Relay,
    sort: Sort<'_>,
    new: Option<&str>,
    csrf: &str,
) -> Result<Markup, Refused> {
    let mut all = admin::invitations(relay).await?;
    match sort.key {
        "made" => all.sort_by(|a, b| sort.apply(a.created_at.cmp(&b.created_at))),
        // Those without an end are the last to end.
        "ends" => all.sort_by_key(|i| i.expires_at.unwrap_or(u64::MAX)),
        "uses" => all.sort_by(|a, b| sort.apply(a.uses_left.cmp(&b.uses_left))),
        "note" => all.sort_by(|a, b| sort.apply(a.note.cmp(&b.note))),
        _ => {}
    }
    if sort.key == "ends" && sort.down {
        all.reverse();
    }
    Ok(pages::invitations(&all, sort, new, csrf))
}

async fn log(relay: &Relay, query: &Fields) -> Result<Markup, Refused> {
    let typed = Typed {
        from: query.field("from").trim(),
        to: query.field("to").trim(),
        since: query.field("since").trim(),
        until: query.field("until").trim(),
    };
    let some = |text: &'static str| {
        let text = query.field(text).trim();
        (!text.is_empty()).then_some(text)
    };
    let now = relay.clock.wall_ms();
    let moment = |text| {
        let moment = some(text).map(|text| show::moment(text, now));
        moment.transpose().map_err(|_| Refused::BadRequest)
    };
    let before = some("before").map(|text| {
        let (at, number) = text.split_once('-')?;
        Some((at.parse().ok()?, number.parse().ok()?))
    });
    let log_query = LogQuery {
        from: some("from").map(str::to_owned),
        to: some("to").map(str::to_owned),
        since: moment("since")?,
        until: moment("until")?,
        before: before.map(|b| b.ok_or(Refused::BadRequest)).transpose()?,
    };
    let (entries, more) = admin::log(relay, log_query).await?;
    Ok(pages::log(&typed, &entries, more, relay.audit.log_days))
}

/// The forms that change something; the session has been checked.
async fn change(relay: &Relay, path: &str, form: &Fields, csrf: &str, cookie: &str) -> Response {
    let frame = frame(relay, csrf);
    let page =
        |status, place, inside: Markup| Response::page(status, pages::page(&frame, place, &inside));
    match path {
        "/admin/logout" => {
            relay.web.sessions.end(cookie);
            Response::redirect("/admin/login").with_cookie("", "; Max-Age=0")
        }
        "/admin/remove" => match Name::parse(form.field("name")) {
            Ok(name) if form.field("again").trim() == name.as_str() => {
                match admin::remove(relay, name).await {
                    Ok(()) => Response::redirect("/admin/users"),
                    Err(refused) => refusal(&frame, Place::Users, refused),
                }
            }
            Ok(_) => {
                let inside = pages::note("Another name was typed: nothing removed.");
                page("400 Bad Request", Place::Users, inside)
            }
            Err(_) => refusal(&frame, Place::Users, Refused::UnknownName),
        },
        "/admin/suspend" | "/admin/resume" => match Name::parse(form.field("name")) {
            Ok(name) => {
                let back = format!("/admin/user?name={name}");
                match admin::suspend(relay, name, path == "/admin/suspend").await {
                    Ok(()) => Response::redirect(&back),
                    Err(refused) => refusal(&frame, Place::Users, refused),
                }
            }
            Err(_) => refusal(&frame, Place::Users, Refused::UnknownName),
        },
        "/admin/invite" => {
            let uses = form.field("uses").parse().unwrap_or(0);
            let days = match form.field("days").trim() {
                "" => None,
                // None that can be used.
                days => Some(days.parse().unwrap_or(0)),
            };
            let made = admin::invite(relay, uses, form.field("note"), days).await;
            let sort = Sort {
                key: "",
                down: false,
            };
            let inside = match made {
                Ok(words) => invitations(relay, sort, Some(&words), csrf).await,
                Err(refused) => Err(refused),
            };
            match inside {
                Ok(inside) => page("200 OK", Place::Invitations, inside),
                Err(refused) => refusal(&frame, Place::Invitations, refused),
            }
        }
        "/admin/withdraw" => match admin::withdraw(relay, form.field("id").to_owned()).await {
            Ok(()) => Response::redirect("/admin/invitations"),
            Err(refused) => refusal(&frame, Place::Invitations, refused),
        },
        _ => Response::new("404 Not Found", TEXT, "no such form\n"),
    }
}

fn refusal(frame: &Frame<'_>, place: Place, refused: Refused) -> Response {
    let status = match refused {
        Refused::BadRequest | Refused::Version => "400 Bad Request",
        // The log page exists; what it says is that there is no log.
        Refused::LogOff => "200 OK",
        Refused::UnknownName | Refused::UnknownInvitation => "404 Not Found",
        Refused::TooManyInvitations => "409 Conflict",
        Refused::Full => "507 Insufficient Storage",
        Refused::ShuttingDown => "503 Service Unavailable",
        Refused::Internal => "500 Internal Server Error",
    };
    let text = match refused {
        Refused::BadRequest => "This cannot be asked: look at what was typed.".to_owned(),
        other => format!("{}. {}.", sentence(other.text()), sentence(other.hint())),
    };
    Response::page(status, pages::page(frame, place, &pages::note(&text)))
}

/// As a sentence begins.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
