//! A token on a thread of its own: commands go there, typed answers come back.
//!
//! ```text
//!  async side: Token::call(|driver| ..) ──▶ channel ──▶ thread: Driver ──▶ Link ──▶ token
//!                                       ◀── oneshot ──
//! ```
//!
//! Invariant: commands run in the order in which they were called, one at a time, each to its end.

mod commands;
mod driver;
mod memory;
mod prekeys;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

pub use commands::{OpenedMessage, SealedMessage, StorageKey};
pub use driver::{Driver, OnNotice, Pin};
pub use prekeys::KeptPrekeys;

use self::memory::StretchMemory;
use crate::error::{Error, Result};
use crate::transport::Link;
use crate::transport::memory::MemoryLink;
use crate::transport::serial::SerialLink;

/// What the user should know while the token is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The token's button has to be pressed.
    TouchNeeded,
    /// It was pressed, or it is too late.
    TouchOver,
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The software token with this file.
    Software(PathBuf),
    /// A port.
    Serial(PathBuf),
}

type Job = Box<dyn FnOnce(&mut Driver) + Send>;

/// Handle to a token; dropping it locks the token and ends its thread.
pub struct Token {
    jobs: mpsc::UnboundedSender<Job>,
    cancel: Arc<AtomicBool>,
}

/// Stack of the token's thread: the software token computes ML-KEM there, unoptimised in tests.
const STACK: usize = 16 * 1024 * 1024;

impl Token {
    /// Opens the token at `place`.
    ///
    /// # Errors
    /// `TokenAbsent`, `TokenBusy`, `Io`.
    pub async fn open(place: Place, on_notice: OnNotice) -> Result<Self> {
        let memory = StretchMemory::fetch();
        let cancel = Arc::new(AtomicBool::new(false));
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let (ready, opened) = oneshot::channel();
        let flag = Arc::clone(&cancel);
        std::thread::Builder::new()
            .name("token".into())
            .stack_size(STACK)
            .spawn(move || {
                let link = match &place {
                    Place::Software(path) => {
                        MemoryLink::open(path).map(|link| Box::new(link) as Box<dyn Link>)
                    }
                    Place::Serial(path) => {
                        SerialLink::open(path).map(|link| Box::new(link) as Box<dyn Link>)
                    }
                };
                let mut driver = match link {
                    Ok(link) => Driver::with_memory(link, memory, flag, on_notice),
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                while let Some(job) = queue.blocking_recv() {
                    job(&mut driver);
                }
            })
            .map_err(|why| Error::io("cannot start a thread", why))?;
        opened
            .await
            .map_err(|_| Error::Internal("token thread"))??;
        Ok(Self { jobs, cancel })
    }

    /// Runs `work` on the token's thread, after everything called before.
    ///
    /// # Errors
    /// What `work` gives; `Internal` if the thread is gone.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Driver) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |driver| {
            let _ = done.send(work(driver));
        });
        self.jobs
            .send(job)
            .map_err(|_| Error::Internal("token thread"))?;
        result.await.map_err(|_| Error::Internal("token thread"))?
    }

    /// Gives up a touch that is waited for, now and from now on.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}
