//! One copy of somebody's home: a token's flash, a folder with the vault, and the client that runs on them now and then.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hostchat::agent::{Begun, Client, Locked, NewAccount, Parts, Unobserved};
use hostchat::error::Result;
use hostchat::home::Home;
use hostchat::model::address::RelayAddress;
use hostchat::model::{Pin, TokenKind};
use hostchat::os::Os;
use hostchat::token::Token;
use hostchat_core::wire::{Name, RelayName};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{Clock, SimFlash, SimLink, SimOs, SimRelay};

/// Everybody's passphrase: one, so that it is stretched once.
const PASSPHRASE: &[u8] = b"a simulated passphrase";
/// Where the folders lie: in memory, where there is such a place.
const IN_MEMORY: &str = "/dev/shm";

/// What of a home goes back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Token and vault.
    Whole,
    /// The token alone.
    Token,
    /// The vault alone.
    Vault,
}

/// What `cp -a` makes of a home.
#[derive(Clone)]
pub struct Image {
    files: Vec<(String, Vec<u8>)>,
    flash: Vec<u8>,
}

/// One copy of a home.
pub struct Copy {
    /// Its number among the copies of this home, from 0.
    pub number: usize,
    folder: TempDir,
    flash: SimFlash,
    /// The program that has it open.
    client: Option<Client>,
}

/// The world around a program that starts.
pub(super) struct Around {
    pub(super) clock: Clock,
    pub(super) relay: SimRelay,
    /// Of what this run of the program draws; a restored home draws other numbers.
    pub(super) seed: u64,
}

impl Copy {
    /// A folder without an account.
    ///
    /// # Panics
    /// If there is no place for it.
    pub(super) fn blank(number: usize) -> Self {
        let folder = match Path::new(IN_MEMORY).is_dir() {
            true => tempfile::tempdir_in(IN_MEMORY),
            false => tempfile::tempdir(),
        };
        Self {
            number,
            folder: folder.expect("a folder"),
            flash: SimFlash::blank(),
            client: None,
        }
    }

    /// A copy in a folder of its own.
    pub(super) fn of(number: usize, image: &Image) -> Self {
        let mut copy = Self::blank(number);
        copy.put(image, Part::Whole);
        copy
    }

    fn parts(&self, around: &Around, home: Home) -> Parts {
        let os = Os::new(SimOs::new(around.clock, around.seed));
        let link = SimLink::start(self.flash.clone(), around.clock, !around.seed);
        Parts {
            home,
            token: Token::local(Box::new(link), os.clone(), Box::new(|_| {})),
            dial: Arc::new(around.relay.clone()),
            os,
            no_history: false,
        }
    }

    /// Makes an account on a blank copy, as `init` does.
    pub(super) async fn init(
        &mut self,
        around: &Around,
        name: &Name,
        relay: &RelayName,
    ) -> Result<()> {
        let home = Home::create(self.folder.path())?;
        let begun = Begun::of(self.parts(around, home), TokenKind::Software).await?;
        let account = NewAccount {
            name: name.clone(),
            relay: RelayAddress {
                name: relay.clone(),
                pin: None,
            },
            invitation: Vec::new(),
            visible: true,
        };
        let client = begun.finish(account, pin()?, &mut Unobserved).await?;
        self.client = Some(client);
        Ok(())
    }

    /// The program that has it open; it is started if there is none.
    pub(super) async fn client(&mut self, around: &Around) -> Result<&mut Client> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let home = Home::open(self.folder.path())?;
                Locked::of(self.parts(around, home))?.unlock(pin()?).await?
            }
        };
        Ok(self.client.insert(client))
    }

    /// Whether a program has it open.
    pub fn is_open(&self) -> bool {
        self.client.is_some()
    }

    /// Ends the program.
    pub fn close(&mut self) {
        self.client = None;
    }

    /// Cuts the power: what the program had in memory is gone.
    pub(super) fn crash(&mut self) {
        self.client = None;
        self.flash.lock().restart();
    }

    /// The token's flash.
    pub fn flash(&self) -> &SimFlash {
        &self.flash
    }

    /// The vault's file.
    pub fn vault_file(&self) -> std::path::PathBuf {
        self.folder.path().join("vault.db")
    }

    /// A copy of everything, as it lies on the disk now.
    ///
    /// # Panics
    /// If the folder cannot be read.
    pub fn image(&self) -> Image {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.folder.path()).expect("a folder") {
            let entry = entry.expect("a file");
            let name = entry.file_name().to_string_lossy().into_owned();
            // The first is made anew by SQLite from the log; the second is no content.
            if name.ends_with("-shm") || name == "lock" {
                continue;
            }
            files.push((name, fs::read(entry.path()).expect("a file")));
        }
        files.sort();
        Image {
            files,
            flash: self.flash.image(),
        }
    }

    /// Puts an older image, or a part of it, in place of what is there; the program ends first.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn put(&mut self, image: &Image, part: Part) {
        self.close();
        if part != Part::Vault {
            self.flash = SimFlash::from_image(&image.flash);
        }
        if part == Part::Token {
            return;
        }
        for entry in fs::read_dir(self.folder.path()).expect("a folder") {
            fs::remove_file(entry.expect("a file").path()).expect("removed");
        }
        for (name, bytes) in &image.files {
            fs::write(self.folder.path().join(name), bytes).expect("written");
        }
    }
}

fn pin() -> Result<Pin> {
    Pin::new(Zeroizing::new(PASSPHRASE.to_vec()))
}
