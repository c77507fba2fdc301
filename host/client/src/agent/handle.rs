//! A face's way to whoever holds the home: in this process, or over its socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::engine::{Engine, Options};
use super::hub::{CallId, Hub, Manners, Out, SeatId, ToHub};
use super::protocol::{Called, Hello, Lines, PROTOCOL, encode};
use super::socket;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::model::Note;
use crate::model::call::{Call, Cancel};

/// How often a home whose holder cannot be talked to yet, or not any more, is tried again.
const TRIES: u32 = 40;
/// How long in between.
const BETWEEN: Duration = Duration::from_millis(25);
/// How long programs at the socket may take to read their last answers.
const FAREWELL: Duration = Duration::from_secs(1);

/// A seat at a holder of a home.
pub struct Handle {
    way: Way,
    from: mpsc::UnboundedReceiver<Out>,
    next: u64,
    /// What is to be told of the home that was opened here.
    opened: Vec<Note>,
}

enum Way {
    /// The holder is this process.
    Here(Here),
    /// The holder is another process; lines go there.
    There(mpsc::UnboundedSender<Vec<u8>>),
}

/// What holds a home in this process.
struct Here {
    seat: SeatId,
    hub: mpsc::UnboundedSender<ToHub>,
    /// Comes when the engine has let go of the home.
    ended: oneshot::Receiver<()>,
    is_over: bool,
    socket: Option<Socket>,
}

/// The socket of a holder.
struct Socket {
    path: PathBuf,
    seats: Arc<Semaphore>,
    serving: JoinHandle<()>,
}

impl Handle {
    /// Takes a seat at whoever holds the home; if nobody does, this process holds it, and others may take their seats.
    ///
    /// # Errors
    /// Those of home and token; `HomeLocked` if its holder cannot be talked to.
    pub async fn open(options: &Options, manners: Manners) -> Result<Self> {
        let mut tries = 0;
        loop {
            let locked = match Self::hold(options, manners, false).await {
                Err(Error::HomeLocked { path, pid, socket }) => (path, pid, socket),
                other => return other,
            };
            if let Some(socket) = &locked.2 {
                match Self::join(socket, manners).await {
                    // It is about to listen, or has just ended.
                    Err(Error::Io { why, .. }) if is_passing(&why) => {}
                    other => return other,
                }
            }
            tries += 1;
            if tries > TRIES {
                let (path, pid, socket) = locked;
                return Err(Error::HomeLocked { path, pid, socket });
            }
            sleep(BETWEEN).await;
        }
    }

    /// Holds the home in this process, as an agent: unlocked it receives for as long as it runs, and a call may end it.
    ///
    /// # Errors
    /// Those of home and token; `HomeLocked` if somebody holds it.
    pub async fn serve(options: &Options) -> Result<Self> {
        Self::hold(options, Manners::default(), true).await
    }

    /// Takes a seat at whoever holds the home; `None` if nobody does.
    ///
    /// # Errors
    /// Those of the home; `HomeLocked` if its holder cannot be talked to.
    pub async fn find(options: &Options, manners: Manners) -> Result<Option<Self>> {
        match Home::open(&options.home()?) {
            Ok(_) => Ok(None),
            Err(Error::HomeLocked {
                socket: Some(socket),
                ..
            }) => Self::join(&socket, manners).await.map(Some),
            Err(error) => Err(error),
        }
    }

    /// Holds the home in this process.
    async fn hold(options: &Options, manners: Manners, serves: bool) -> Result<Self> {
        let (hub, inbox) = mpsc::unbounded_channel();
        let (orders, engine) = mpsc::unbounded_channel();
        let (ready, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (options, mouth, own) = (options.clone(), hub.clone(), orders.clone());
        thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => {
                        runtime.block_on(async {
                            match Engine::open(&options, serves, own, engine, mouth).await {
                                Ok(engine) => {
                                    let _ = ready.send(Ok((engine.opened(), engine.socket())));
                                    engine.run().await;
                                }
                                Err(error) => drop(ready.send(Err(error))),
                            }
                        });
                        // A name look-up that still works must not hold the end up.
                        runtime.shutdown_background();
                    }
                    Err(why) => {
                        drop(ready.send(Err(Error::io("cannot start the runtime", why))));
                    }
                }
                drop(end);
            })
            .map_err(|why| Error::io("cannot start a thread", why))?;
        let gone = |_| Error::Internal("the engine has ended");
        let (opened, socket) = opened.await.map_err(gone)??;
        tokio::spawn(Hub::new(inbox, orders, serves).run());
        let (to, from) = mpsc::unbounded_channel();
        let (seat, joined) = oneshot::channel();
        hub.send(ToHub::Join { manners, to, seat })
            .map_err(|_| Error::Internal("the hub has ended"))?;
        let seat = joined
            .await
            .map_err(|_| Error::Internal("the hub has ended"))?;
        let here = Here {
            seat,
            ended,
            is_over: false,
            socket: Socket::open(socket?, &hub),
            hub,
        };
        Ok(Self {
            way: Way::Here(here),
            from,
            next: 0,
            opened,
        })
    }

    /// Takes a seat at the holder whose socket this is.
    async fn join(path: &Path, manners: Manners) -> Result<Self> {
        let io = |why| {
            let what = format!(
                "cannot talk to the hostchat that holds the home, at {}",
                path.display()
            );
            Error::io(what, why)
        };
        let (reader, mut writer) = socket::connect(path).await.map_err(io)?.into_split();
        let mut reader = BufReader::new(reader);
        let hello = encode(&Hello::new(manners))?;
        writer.write_all(&hello).await.map_err(io)?;
        let first = socket::read_line(&mut reader).await.map_err(io)?;
        let first = first.ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into()))?;
        let theirs: Hello = serde_json::from_slice(&first).map_err(|why| io(why.into()))?;
        if theirs.hello.protocol != PROTOCOL {
            return Err(Error::Usage(format!(
                "the hostchat that holds the home is of another version ({}): end it, or wait until it has ended",
                crate::escape::escape(&theirs.hello.program)
            )));
        }
        let (to, mut lines) = mpsc::unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                // Its end is read as well.
                let _ = writer.write_all(&line).await;
            }
        });
        let (out, from) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut lines = Lines::default();
            while let Ok(Some(line)) = socket::read_line(&mut reader).await {
                if let Some(read) = lines.take(&line)
                    && out.send(read).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            way: Way::There(to),
            from,
            next: 0,
            opened: Vec::new(),
        })
    }

    /// What other users could read or change in the home, if it was opened here.
    #[must_use]
    pub fn opened(&self) -> &[Note] {
        &self.opened
    }

    /// Makes a call; gives its number.
    ///
    /// # Errors
    /// `HolderGone`.
    pub fn call(&mut self, call: impl Into<Call>) -> Result<u64> {
        self.next += 1;
        let (id, call) = (self.next, call.into());
        let gone = match &self.way {
            Way::Here(here) => {
                let of = CallId {
                    seat: here.seat,
                    id,
                };
                here.hub.send(ToHub::Call(of, Box::new(call))).is_err()
            }
            Way::There(to) => to.send(encode(&Called { id, call })?).is_err(),
        };
        if gone {
            return Err(Error::HolderGone);
        }
        Ok(id)
    }

    /// Wishes a call to end; its answer comes all the same.
    ///
    /// # Errors
    /// `HolderGone`.
    pub fn cancel(&mut self, id: u64) -> Result<()> {
        self.call(Cancel { id }).map(drop)
    }

    /// Waits for what comes next. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `HolderGone`.
    pub async fn next(&mut self) -> Result<Out> {
        self.from.recv().await.ok_or(Error::HolderGone)
    }

    /// Waits until a holder in this process has ended by itself; for ever for a seat at another one.
    pub async fn ended(&mut self) {
        match &mut self.way {
            Way::Here(here) => {
                let _ = (&mut here.ended).await;
                here.is_over = true;
            }
            Way::There(_) => std::future::pending().await,
        }
    }

    /// Leaves. A home that is held here is let go when what others have asked for is done.
    pub async fn close(self) {
        let Way::Here(here) = self.way else { return };
        if let Some(socket) = &here.socket {
            // Before the home is free: its next holder has a socket of the same name.
            let _ = std::fs::remove_file(&socket.path);
        }
        let _ = here.hub.send(ToHub::Left(here.seat));
        let _ = here.hub.send(ToHub::Close);
        // It ends with the engine's thread.
        if !here.is_over {
            let _ = here.ended.await;
        }
        if let Some(socket) = here.socket {
            socket.close().await;
        }
    }
}

/// Whether a holder may be there in a moment, or its place be free.
fn is_passing(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

impl Socket {
    /// Listens; where that is not possible, the home is held all the same.
    fn open(path: PathBuf, hub: &mpsc::UnboundedSender<ToHub>) -> Option<Self> {
        let listener = socket::listen(&path).ok()?;
        let seats = Arc::new(Semaphore::new(socket::MOST));
        let serving = tokio::spawn(socket::serve(listener, hub.clone(), Arc::clone(&seats)));
        Some(Self {
            path,
            seats,
            serving,
        })
    }

    async fn close(self) {
        self.serving.abort();
        let all = u32::try_from(socket::MOST).unwrap_or(u32::MAX);
        // Whoever does not read has had its time.
        let _ = timeout(FAREWELL, self.seats.acquire_many(all)).await;
    }
}
