//! A token on a thread of its own: commands go there, typed answers come back.
//!
//! ```text
//!  async side: Token::call(|driver| ..) ──▶ channel ──▶ thread: Driver ──▶ Link ──▶ token
//!                                       ◀── oneshot ──
//!  simulation: Token::call(|driver| ..) ──────────────▶ Driver ──▶ Link ──▶ token       in the caller's thread
//! ```
//!
//! Invariant: commands run in the order in which they were called, one at a time, each to its end.

mod commands;
mod driver;
mod memory;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

pub use commands::{OpenedMessage, Prekeys, SealedMessage, StorageKey};
pub use driver::{Driver, OnNotice, Pin};

use self::memory::StretchMemory;
use crate::error::{Error, Result};
use crate::os::Os;
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
    /// The software token with this file, which is there.
    Software(PathBuf),
    /// The same; a blank one is made if there is none.
    NewSoftware(PathBuf),
    /// A port.
    Serial(PathBuf),
}

impl Place {
    fn open(&self) -> Result<Box<dyn Link + Send>> {
        Ok(match self {
            Self::Software(path) => Box::new(MemoryLink::open(path)?),
            Self::NewSoftware(path) => Box::new(MemoryLink::open_or_make(path)?),
            Self::Serial(path) => Box::new(SerialLink::open(path)?),
        })
    }
}

type Job = Box<dyn FnOnce(&mut Driver) + Send>;

/// Handle to a token; dropping it locks the token and ends its thread.
pub struct Token {
    runs: Runs,
    cancel: Arc<AtomicBool>,
}

/// Where the commands run.
enum Runs {
    /// On a thread of the token's own.
    Thread(mpsc::UnboundedSender<Job>),
    /// In the thread that calls.
    Here(Box<Mutex<Driver>>),
}

/// Stack of the token's thread: the software token computes ML-KEM there, unoptimised in tests.
const STACK: usize = 16 * 1024 * 1024;

impl Token {
    /// Opens the token at `place`.
    ///
    /// # Errors
    /// `TokenAbsent`, `TokenBusy`, `NoKeys`, `Io`.
    pub async fn open(place: Place, os: Os, on_notice: OnNotice) -> Result<Self> {
        Self::on_thread(move || place.open(), os, on_notice).await
    }

    /// Starts a thread, which opens the link with `open` and keeps it.
    ///
    /// # Errors
    /// Those of `open`; `Io`.
    pub async fn on_thread(
        open: impl FnOnce() -> Result<Box<dyn Link + Send>> + Send + 'static,
        os: Os,
        on_notice: OnNotice,
    ) -> Result<Self> {
        let memory = StretchMemory::fetch();
        let cancel = Arc::new(AtomicBool::new(false));
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let (ready, opened) = oneshot::channel();
        let flag = Arc::clone(&cancel);
        std::thread::Builder::new()
            .name("token".into())
            .stack_size(STACK)
            .spawn(move || {
                let mut driver = match open() {
                    Ok(link) => Driver::with_memory(link, Some(memory), os, flag, on_notice),
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
        let runs = Runs::Thread(jobs);
        Ok(Self { runs, cancel })
    }

    /// A token without a thread: each command runs in the thread that calls, which it blocks. For simulations.
    pub fn local(link: Box<dyn Link + Send>, os: Os, on_notice: OnNotice) -> Self {
        let cancel = Arc::new(AtomicBool::new(false));
        let driver = Driver::with_memory(link, None, os, Arc::clone(&cancel), on_notice);
        let runs = Runs::Here(Box::new(Mutex::new(driver)));
        Self { runs, cancel }
    }

    /// Runs `work` where the token's commands run, after everything called before.
    ///
    /// # Errors
    /// What `work` gives; `Internal` if the thread is gone.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Driver) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let jobs = match &self.runs {
            Runs::Thread(jobs) => jobs,
            Runs::Here(driver) => {
                let mut driver = driver.lock().unwrap_or_else(PoisonError::into_inner);
                return work(&mut driver);
            }
        };
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |driver| {
            let _ = done.send(work(driver));
        });
        jobs.send(job)
            .map_err(|_| Error::Internal("token thread"))?;
        result.await.map_err(|_| Error::Internal("token thread"))?
    }

    /// Gives up a touch that is waited for, now and from now on.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use hostchat_core::icd::Activity;

    use super::*;
    use crate::transport::LinkBuffer;

    /// Answers nothing and tells who asked.
    struct Deaf(Arc<Mutex<Vec<ThreadId>>>);

    impl Link for Deaf {
        fn exchange(
            &mut self,
            _request: &[u8],
            reply: &mut LinkBuffer,
            _alive: &mut dyn FnMut(Option<Activity>) -> bool,
        ) -> Result<()> {
            self.0.lock().unwrap().push(thread::current().id());
            reply.clear();
            Ok(())
        }

        fn describe(&self) -> &str {
            "a deaf token"
        }
    }

    #[tokio::test]
    async fn a_token_works_on_its_thread_and_a_local_one_in_the_callers() {
        let asked = Arc::<Mutex<Vec<ThreadId>>>::default();
        let deaf = Box::new(Deaf(Arc::clone(&asked)));
        let here = Token::local(deaf, Os::default(), Box::new(|_| {}));
        assert!(matches!(here.hello().await, Err(Error::NotAToken(_))));
        let deaf = Deaf(Arc::clone(&asked));
        let open = move || Ok(Box::new(deaf) as Box<dyn Link + Send>);
        let there = Token::on_thread(open, Os::default(), Box::new(|_| {}))
            .await
            .unwrap();
        assert!(matches!(there.hello().await, Err(Error::NotAToken(_))));
        let own = thread::current().id();
        let asked: Vec<bool> = asked.lock().unwrap().iter().map(|id| *id == own).collect();
        assert_eq!(asked, [true, false]);
    }
}
