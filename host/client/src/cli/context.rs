//! What every command gets: its options, the output, and the way to a client.

use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::output::Output;
use super::secret::Secret;
use super::terminal::Terminal;
use super::{Global, prompt};
use crate::agent::{Client, Locked, Options, Stop, note};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::model::address::RelayAddress;
use crate::model::{Note, Pin};
use crate::token::OnNotice;
use crate::transport::usb;

/// What every command gets.
pub(super) struct Context {
    pub(super) global: Global,
    pub(super) output: Output,
    pub(super) stop: Stop,
}

impl Context {
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
        let mut output = self.output;
        for opened in home.opened() {
            let (path, mode, closed) = (opened.path.clone(), opened.mode, opened.closed);
            note(&mut output, Note::Permissions { path, mode, closed })?;
        }
        Ok(())
    }

    /// Opens the home and unlocks its token.
    pub(super) async fn client(&self) -> Result<Client> {
        let locked = self.locked().await?;
        let mut client = self.unlock(locked, false).await?;
        let mut output = self.output;
        client.tell_of_new_vault(&mut output).await?;
        Ok(client)
    }

    /// As [`Self::client`], for a command that needs the relay: connects while the PIN is stretched.
    pub(super) async fn online(&self) -> Result<Client> {
        let locked = self.locked().await?;
        self.unlock(locked, true).await
    }

    /// Unlocks with what is typed; a passphrase, which costs no tries, may be wrong twice.
    async fn unlock(&self, mut locked: Locked, connects: bool) -> Result<Client> {
        let secret = Secret::from(locked.kind());
        let mut again = if self.global.pin_file.is_none() && secret == Secret::Passphrase {
            2
        } else {
            0
        };
        // A token takes a while to say that the first one was wrong: nobody sees what is typed meanwhile.
        let quiet = self
            .global
            .pin_file
            .is_none()
            .then(Terminal::open)
            .flatten();
        let _quiet = quiet.map(Terminal::quiet);
        loop {
            let pin = self.pin(secret).await?;
            if connects {
                locked.connect_early();
            }
            match locked.try_pin(pin).await {
                Err(Error::WrongPin { .. }) if again > 0 => {
                    again -= 1;
                    if let Some(mut terminal) = Terminal::open() {
                        terminal.discard_typed();
                        terminal.say("Wrong passphrase. Try again.");
                    }
                }
                other => {
                    other?;
                    return locked
                        .open_vault()
                        .await
                        .map(|client| self.stoppable(client));
                }
            }
        }
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
