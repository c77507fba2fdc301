//! What every command gets: its options, the output, and the way to a client.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::output::Output;
use super::secret::Secret;
use super::session::Session;
use super::terminal::Terminal;
use super::{Global, prompt};
use crate::agent::{Client, Handle, Locked, Manners, Options, Stop};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::model::address::RelayAddress;
use crate::model::{Event, Note, Pin};
use crate::token::OnNotice;
use crate::transport::usb;

/// What every command gets.
pub(super) struct Context {
    pub(super) global: Global,
    pub(super) output: Output,
    pub(super) stop: Stop,
    /// Seats that were left, with the homes that are held with them.
    left: RefCell<Vec<Handle>>,
}

impl Context {
    pub(super) fn new(global: Global, output: Output, stop: Stop) -> Self {
        Self {
            global,
            output,
            stop,
            left: RefCell::default(),
        }
    }

    /// A seat is not needed any more.
    pub(super) fn left(&self, handle: Handle) {
        self.left.borrow_mut().push(handle);
    }

    /// Lets go of homes, when what others have asked for is done.
    pub(super) async fn let_go(&self) {
        let left = std::mem::take(&mut *self.left.borrow_mut());
        for handle in left {
            handle.close().await;
        }
    }

    pub(super) fn options(&self) -> Result<Options> {
        let relay = self
            .global
            .relay
            .as_deref()
            .map(RelayAddress::parse)
            .transpose()?;
        let token = match &self.global.token {
            Some(port) if port == Path::new(usb::AUTO) => Some(usb::only_port()?),
            other => other.clone(),
        };
        Ok(Options {
            home: self.global.home.clone(),
            token,
            relay,
            no_history: self.global.no_history,
        })
    }

    pub(super) fn on_notice(&self) -> OnNotice {
        let output = self.output;
        Box::new(move |notice| output.notice(notice))
    }

    /// Asks somebody or something, without keeping connections from going on, until Ctrl-C.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let terminal = Terminal::open();
        let answer = tokio::task::spawn_blocking(question);
        tokio::select! {
            answer = answer => answer.map_err(|_| Error::Internal("question"))?,
            () = self.stop.wished() => {
                // A hidden question has turned the echo off.
                if let Some(terminal) = terminal {
                    terminal.restore();
                }
                eprintln!();
                Err(Error::Interrupted)
            }
        }
    }

    pub(super) async fn pin(&self, secret: Secret) -> Result<Pin> {
        let file = self.global.pin_file.clone();
        self.ask(move || secret.present(file.as_deref())).await
    }

    pub(super) async fn text(
        &self,
        argument: Option<String>,
        waits: bool,
    ) -> Result<Zeroizing<String>> {
        self.ask(move || prompt::text(argument.as_deref(), waits))
            .await
    }

    /// Opens the home without a PIN.
    pub(super) async fn locked(&self) -> Result<Locked> {
        let locked = Locked::open(&self.options()?, self.on_notice()).await?;
        self.tell_opened(locked.home())?;
        Ok(locked)
    }

    /// Tells what other users could read or change in a home.
    pub(super) fn tell_opened(&self, home: &Home) -> Result<()> {
        for opened in home.opened() {
            let (path, mode, closed) = (opened.path.clone(), opened.mode, opened.closed);
            let note = Note::Permissions { path, mode, closed };
            self.output.event(&Event::Note(note))?;
        }
        Ok(())
    }

    /// What a seat of this command is good for.
    pub(super) fn manners(&self) -> Manners {
        Manners {
            asks: !self.output.json && prompt::is_interactive(),
            no_history: self.global.no_history,
        }
    }

    /// Takes a seat at whoever holds the home.
    pub(super) async fn handle(&self) -> Result<Handle> {
        Handle::open(&self.options()?, self.manners()).await
    }

    /// Prints what is told before anything else.
    pub(super) fn tell(&self, notes: &[Note]) -> Result<()> {
        notes
            .iter()
            .try_for_each(|note| self.output.event(&Event::Note(note.clone())))
    }

    /// Begins to talk with whoever holds the home.
    pub(super) async fn session(&self) -> Result<Session<'_>> {
        Session::open(self).await
    }

    /// Waits, until Ctrl-C at most.
    pub(super) async fn pause(&self, time: Duration) -> Result<()> {
        self.unless_stopped(async {
            tokio::time::sleep(time).await;
            Ok(())
        })
        .await
    }

    /// Does something until Ctrl-C at most.
    pub(super) async fn unless_stopped<T>(
        &self,
        what: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            done = what => done,
            () = self.stop.wished() => Err(Error::Interrupted),
        }
    }

    /// Lets Ctrl-C reach a client.
    pub(super) fn stoppable(&self, client: Client) -> Client {
        client.with_stop(self.stop.clone())
    }
}
