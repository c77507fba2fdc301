//! A token on a thread of its own: commands go there, typed answers come back.
//!
//! ```text
//!  async side: Token::call(|driver| ..) ──▶ channel ──▶ thread: Driver ──▶ Link ──▶ token
//!                                       ◀── oneshot ──    waits for the channel and the port together
//!  simulation: Token::call(|driver| ..) ──────────────▶ Driver ──▶ Link ──▶ token       in the caller's thread
//! ```
//!
//! Invariant: commands run in the order in which they were called, one at a time, each to its end.

mod commands;
mod driver;
mod memory;

use std::future::pending;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::{oneshot, watch};

pub use commands::{OpenedMessage, Prekeys, SealedMessage, StorageKey};
pub use driver::{Driver, OnNotice};

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
    gone: watch::Receiver<Option<String>>,
}

/// Where the commands run.
enum Runs {
    /// On a thread of the token's own.
    Thread(Jobs),
    /// In the thread that calls.
    Here(Box<Mutex<Driver>>),
}

/// The way to the token's thread, which sleeps until `bell` is rung.
struct Jobs {
    /// `None` only while it is dropped.
    queue: Option<Sender<Job>>,
    bell: Arc<OwnedFd>,
}

impl Jobs {
    fn send(&self, job: Job) -> Result<()> {
        let gone = || Error::Internal("token thread");
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(job).map_err(|_| gone())?;
        ring(&self.bell);
        Ok(())
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.queue = None;
        ring(&self.bell);
    }
}

fn ring(bell: &OwnedFd) {
    // It only fails when it was rung so often that the thread will wake up anyway.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// Tells that a token's port went away while nothing was asked of it.
pub struct Gone(watch::Receiver<Option<String>>);

impl Gone {
    /// Ends when the token was unplugged while it had nothing to do; never for one that cannot be.
    pub async fn unplugged(&mut self) -> Error {
        let path = match self.0.wait_for(Option::is_some).await {
            Ok(path) => path.clone(),
            Err(_) => None,
        };
        match path {
            Some(path) => Error::TokenUnplugged(path),
            None => pending().await,
        }
    }
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
        let (sender, queue) = channel::<Job>();
        let (ready, opened) = oneshot::channel();
        let (tell, gone) = watch::channel(None);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|why| Error::io("cannot start a thread", why.into()))?;
        let bell = Arc::new(bell);
        let jobs = Jobs {
            queue: Some(sender),
            bell: Arc::clone(&bell),
        };
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
                work(&queue, &bell, &mut driver, &tell);
            })
            .map_err(|why| Error::io("cannot start a thread", why))?;
        opened
            .await
            .map_err(|_| Error::Internal("token thread"))??;
        let runs = Runs::Thread(jobs);
        Ok(Self { runs, cancel, gone })
    }

    /// A token without a thread: each command runs in the thread that calls, which it blocks. For simulations.
    pub fn local(link: Box<dyn Link + Send>, os: Os, on_notice: OnNotice) -> Self {
        let cancel = Arc::new(AtomicBool::new(false));
        let driver = Driver::with_memory(link, None, os, Arc::clone(&cancel), on_notice);
        let runs = Runs::Here(Box::new(Mutex::new(driver)));
        let (_, gone) = watch::channel(None);
        Self { runs, cancel, gone }
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
        jobs.send(job)?;
        result.await.map_err(|_| Error::Internal("token thread"))?
    }

    /// What tells that the token was unplugged while nothing was asked of it.
    pub fn gone(&self) -> Gone {
        Gone(self.gone.clone())
    }

    /// Gives up a touch that is waited for, now and from now on.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// The token's thread: does what is asked until nobody can ask any more, and looks after the port meanwhile.
fn work(
    queue: &Receiver<Job>,
    bell: &OwnedFd,
    driver: &mut Driver,
    tell: &watch::Sender<Option<String>>,
) {
    loop {
        match queue.try_recv() {
            Ok(job) => job(driver),
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                if wait(bell, driver, tell.borrow().is_some())
                    && let Err(Error::TokenUnplugged(path)) = driver.idle()
                {
                    tell.send_replace(Some(path));
                }
            }
        }
    }
}

/// Sleeps until the bell rings, or something happens at the port, which is passed over once it is `gone`.
fn wait(bell: &OwnedFd, driver: &Driver, gone: bool) -> bool {
    let mut awaited = heapless::Vec::<PollFd<'_>, 2>::new();
    let _ = awaited.push(PollFd::new(bell, PollFlags::IN));
    if let Some(port) = driver.port().filter(|_| !gone) {
        let _ = awaited.push(PollFd::from_borrowed_fd(port, PollFlags::IN));
    }
    // An interrupted wait only looks at the queue once more.
    let _ = poll(&mut awaited, None);
    let _ = rustix::io::read(bell, &mut [0; 8]);
    awaited
        .get(1)
        .is_some_and(|port| !port.revents().is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;
    use std::thread::{self, ThreadId};

    use hostchat_core::icd::Activity;
    use serialport::{SerialPort as _, TTYPort};

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
    async fn an_idle_token_that_is_unplugged_is_told_and_one_that_talks_is_not() {
        let (mut master, slave) = TTYPort::pair().unwrap();
        let port = PathBuf::from(slave.name().unwrap());
        drop(slave);
        let token = Token::open(Place::Serial(port.clone()), Os::default(), Box::new(|_| {}))
            .await
            .unwrap();
        let (mut gone, mut also) = (token.gone(), token.gone());
        master.write_all(&[0; 2000]).unwrap();
        drop(master);
        for gone in [&mut gone, &mut also] {
            let error = gone.unplugged().await;
            assert!(matches!(&error, Error::TokenUnplugged(path) if Path::new(path) == port));
        }
        assert!(matches!(token.hello().await, Err(Error::TokenUnplugged(_))));
    }

    #[tokio::test]
    async fn a_token_works_on_its_thread_and_a_local_one_in_the_callers() {
        let asked = Arc::<Mutex<Vec<ThreadId>>>::default();
        let deaf = Box::new(Deaf(Arc::clone(&asked)));
        let here = Token::local(deaf, Os::default(), Box::new(|_| {}));
        assert!(matches!(here.hello().await, Err(Error::NotAToken { .. })));
        let deaf = Deaf(Arc::clone(&asked));
        let open = move || Ok(Box::new(deaf) as Box<dyn Link + Send>);
        let there = Token::on_thread(open, Os::default(), Box::new(|_| {}))
            .await
            .unwrap();
        assert!(matches!(there.hello().await, Err(Error::NotAToken { .. })));
        let own = thread::current().id();
        let asked: Vec<bool> = asked.lock().unwrap().iter().map(|id| *id == own).collect();
        assert_eq!(asked, [true, false]);
    }
}
