//! What a client needs of a relay: somebody who dials, and a line on which calls are made.
//!
//! ```text
//!  Client ──▶ Dial::connect ─▶ Dialled::log_in ─▶ Connection (calls.rs: one method for each call)
//!                                                     └─▶ Line: a WebSocket, or a relay in a simulation
//! ```
//!
//! Calls and answers cross a [`Line`] as the protocol has them, so a relay in memory is held to the same encoding.

use futures_util::future::BoxFuture;
use hostchat_core::wire::Name;
use hostchat_core::wire::relay::Call;

use super::connection::may_register;
use super::{Connection, Login, Pushed};
use crate::error::Result;
use crate::model::address::RelayAddress;
use crate::transport::websocket::{self, Opened};

/// A line that is logged in; dropping it closes it.
pub trait Line: Send + Sync {
    /// Makes a call and gives the answer, an encoded [`hostchat_core::wire::relay::Event::Reply`].
    ///
    /// # Errors
    /// `RelayGone`, also when no answer comes in time; `RelayRefused` or `RelayProtocol` if the line ended with that.
    fn ask<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Vec<u8>>>;

    /// Makes a call without waiting for the answer.
    ///
    /// # Errors
    /// As [`Self::ask`].
    fn tell<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<()>>;

    /// Waits for the next delivery. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Self::ask`], when the line is over and everything before was handed out.
    fn next(&mut self) -> BoxFuture<'_, Result<Pushed>>;

    /// A delivery that has arrived already.
    fn try_next(&mut self) -> Option<Pushed>;

    /// Whether the line stands as far as is known.
    fn is_alive(&self) -> bool;
}

/// Whoever connects to relays.
pub trait Dial: Send + Sync {
    /// Connects, short of the login.
    ///
    /// # Errors
    /// `RelayUnreachable`, `RelayCertificate`, `RelayVersion`.
    fn connect(&self, relay: RelayAddress) -> BoxFuture<'static, Result<Box<dyn Dialled>>>;
}

/// A connection that nobody has logged in on yet.
pub trait Dialled: Send {
    /// Logs in.
    ///
    /// # Errors
    /// As [`Connection::login`].
    fn log_in<'a>(self: Box<Self>, login: Login<'a>) -> BoxFuture<'a, Result<Connection>>;

    /// Asks whether the name could be registered, with an invitation or without, and ends the connection. A relay that does
    /// not know the question has nothing against it.
    ///
    /// # Errors
    /// `RelayRefused`, `RelayVersion`, `RelayProtocol`.
    fn may_register(
        self: Box<Self>,
        _name: Name,
        _invited: bool,
    ) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Dials over the network: WebSocket, TLS, TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

struct Fresh {
    relay: RelayAddress,
    opened: Opened,
}

impl Dial for Network {
    fn connect(&self, relay: RelayAddress) -> BoxFuture<'static, Result<Box<dyn Dialled>>> {
        Box::pin(async move {
            let opened = websocket::connect(&relay).await?;
            Ok(Box::new(Fresh { relay, opened }) as Box<dyn Dialled>)
        })
    }
}

impl Dialled for Fresh {
    fn log_in<'a>(self: Box<Self>, login: Login<'a>) -> BoxFuture<'a, Result<Connection>> {
        Box::pin(async move {
            let Opened {
                socket,
                exporter,
                relay_time,
            } = self.opened;
            let connection = Connection::login(self.relay.name, socket, exporter, login).await?;
            Ok(connection.at_time(relay_time))
        })
    }

    fn may_register(self: Box<Self>, name: Name, invited: bool) -> BoxFuture<'static, Result<()>> {
        Box::pin(may_register(
            self.relay.name,
            self.opened.socket,
            name,
            invited,
        ))
    }
}
