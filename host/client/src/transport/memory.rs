//! The software token: the token application inside this process, its flash in a file.

use std::io;
use std::path::Path;

use hostchat_core::icd::Activity;
use hostchat_token::App;
use hostchat_token::host::{HostConfig, HostEnv, HostError};

use super::{Link, LinkBuffer};
use crate::error::{Error, Holder, Result};

/// The token application and its file.
pub struct MemoryLink {
    app: Box<App<HostEnv>>,
}

const NAME: &str = "the software token";

impl MemoryLink {
    /// Opens the file.
    ///
    /// # Errors
    /// `NoKeys` if it is not there or damaged; `TokenBusy`, `Io`.
    pub fn open(path: &Path) -> Result<Self> {
        match path.try_exists() {
            // Whoever else makes a blank one hides that the keys are gone.
            Ok(false) => Err(Error::NoKeys {
                path: path.into(),
                why: "is missing",
            }),
            _ => Self::open_or_make(path),
        }
    }

    /// Opens the file, or makes a blank one.
    ///
    /// # Errors
    /// `NoKeys` if it is damaged; `TokenBusy`, `Io`.
    pub fn open_or_make(path: &Path) -> Result<Self> {
        let opened = hostchat_token::host::open(path, HostConfig::software());
        let io = |why| {
            Error::io(
                format!("cannot use the software token {}", path.display()),
                why,
            )
        };
        let app = opened.map_err(|error| match error {
            HostError::Busy(pid) => {
                let holder = pid.map(|pid| Holder {
                    pid,
                    program: "hostchat".into(),
                });
                Error::TokenBusy {
                    path: path.display().to_string(),
                    holder,
                }
            }
            HostError::Damaged => Error::NoKeys {
                path: path.into(),
                why: "is damaged",
            },
            HostError::NoSpace => io(io::ErrorKind::StorageFull.into()),
            HostError::Io(why) => io(why),
            _ => io(io::Error::other("it cannot be read or written")),
        })?;
        Ok(Self { app: Box::new(app) })
    }
}

impl Link for MemoryLink {
    fn exchange(
        &mut self,
        request: &[u8],
        reply: &mut LinkBuffer,
        _alive: &mut dyn FnMut(Option<Activity>) -> bool,
    ) -> Result<()> {
        embassy_futures::block_on(self.app.handle(request, reply));
        Ok(())
    }

    fn describe(&self) -> &str {
        NAME
    }
}
