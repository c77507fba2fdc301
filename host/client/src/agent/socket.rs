//! The socket of whoever holds a home: other programs of the same user take their seats there.
//!
//! ```text
//!  $XDG_RUNTIME_DIR/hostchat/<device and inode of the home>.sock, or agent.sock in the home       folder 0700, socket 0600
//!  the lock file of the home names it                                                             for whoever finds the lock held
//! ```
//!
//! Invariant: neither side says anything before it knows that the other belongs to its own user.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::hub::{CallId, Out, ToHub};
use super::protocol::{Called, Hello, LONGEST, PROTOCOL, Unread, encode, lines_of};

/// How long to wait for a descriptor.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a program may take to read a line.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many calls of one program are open, or have answers that it has not read.
const CALLS: usize = 64;
/// As many programs at once.
pub(super) const MOST: usize = 64;

/// Listens at `path`. A socket that is there belongs to a holder that has ended, since only one holds a home.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (folder, name) = parts(path)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let folder = own_folder(folder)?;
    match rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(why) => return Err(why.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address(&folder, name)?)?;
    // Nobody can connect before `listen`, so that the mode is set in time.
    rustix::fs::chmodat(
        &folder,
        name,
        Mode::RUSR | Mode::WUSR,
        rustix::fs::AtFlags::empty(),
    )?;
    rustix::net::listen(&socket, 64)?;
    UnixListener::from_std(socket.into())
}

/// Connects to the holder whose socket is at `path`, if folder, socket and holder are the own user's.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (folder, name) = parts(path)?;
    let folder = own_folder(folder)?;
    let found = rustix::fs::statat(&folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    let is_socket = found.st_mode & 0o170_000 == 0o140_000;
    if !is_socket || found.st_uid != own_user() || found.st_mode & 0o022 != 0 {
        return Err(foreign(path));
    }
    let through = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    let stream = UnixStream::connect(&through).await?;
    if stream.peer_cred()?.uid() == own_user() {
        Ok(stream)
    } else {
        Err(foreign(path))
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn foreign(path: &Path) -> io::Error {
    let text = format!(
        "{} belongs to another user, or others can change it",
        path.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn parts(path: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    path.parent()
        .zip(path.file_name())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Opens a folder that only the own user can change.
fn own_folder(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(CWD, folder, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&opened)?;
    if found.st_uid != own_user() || found.st_mode & 0o022 != 0 {
        return Err(foreign(folder));
    }
    Ok(opened)
}

/// The address of a socket in an open folder: a path of any length fits.
fn address(folder: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<SocketAddrUnix> {
    let through = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok(SocketAddrUnix::new(&through)?)
}

/// Takes in programs until it is dropped.
pub(super) async fn serve(
    listener: UnixListener,
    hub: mpsc::UnboundedSender<ToHub>,
    seats: Arc<Semaphore>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Descriptors are used up: somebody will go.
            sleep(AGAIN).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            continue;
        };
        let hub = hub.clone();
        tokio::spawn(async move {
            let _seat = seat;
            // Whatever goes wrong ends this one program's seat.
            let _ = attend(stream, hub).await;
        });
    }
}

async fn attend(stream: UnixStream, hub: mpsc::UnboundedSender<ToHub>) -> io::Result<()> {
    if stream.peer_cred()?.uid() != own_user() {
        return Ok(());
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Some(first) = read_line(&mut reader).await? else {
        return Ok(());
    };
    let hello = serde_json::from_slice::<Hello>(&first)?.hello;
    let ours = Hello::new(Default::default());
    if hello.protocol != PROTOCOL {
        return send(&mut writer, &ours).await;
    }
    let (to, from) = mpsc::unbounded_channel();
    let (seat, joined) = oneshot::channel();
    let gone = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
    let manners = hello.manners;
    hub.send(ToHub::Join { manners, to, seat })
        .map_err(|_| io::ErrorKind::ConnectionAborted)?;
    // Whoever has been greeted has a seat.
    let seat = joined.await.map_err(gone)?;
    send(&mut writer, &ours).await?;
    // Who does not read its answers is not asked for more, and goes after a while.
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut writing = tokio::spawn(write(writer, from, Arc::clone(&calls)));
    let read = tokio::select! {
        read = read_calls(&mut reader, seat, &hub, &calls) => read,
        _ = &mut writing => Ok(()),
    };
    let _ = hub.send(ToHub::Left(seat));
    if !writing.is_finished() {
        // The hub lets go of the seat; what it has said until then may still be read.
        let _ = writing.await;
    }
    read
}

async fn read_calls(
    reader: &mut BufReader<OwnedReadHalf>,
    seat: u64,
    hub: &mpsc::UnboundedSender<ToHub>,
    calls: &Semaphore,
) -> io::Result<()> {
    loop {
        // Nobody closes it.
        if let Ok(one) = calls.acquire().await {
            one.forget();
        }
        let Some(line) = read_line(reader).await? else {
            return Ok(());
        };
        let gone = |_| io::ErrorKind::ConnectionAborted;
        match serde_json::from_slice::<Called>(&line) {
            Ok(Called { id, call }) => {
                let of = CallId { seat, id };
                hub.send(ToHub::Call(of, Box::new(call))).map_err(gone)?;
            }
            // A newer program may make a call that this one does not know.
            Err(_) => {
                let Unread { id } = serde_json::from_slice(&line)?;
                hub.send(ToHub::Unknown(CallId { seat, id }))
                    .map_err(gone)?;
            }
        }
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut from: mpsc::UnboundedReceiver<Out>,
    calls: Arc<Semaphore>,
) {
    while let Some(out) = from.recv().await {
        let answers = matches!(out, Out::Answer { .. });
        for line in lines_of(out) {
            let sent = timeout(PATIENCE, send(&mut writer, &line)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
        if answers {
            calls.add_permits(1);
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, line: &impl serde::Serialize) -> io::Result<()> {
    let bytes = encode(line).map_err(|why| io::Error::other(why.to_string()))?;
    writer.write_all(&bytes).await
}

/// One line without its end; `None` at the end.
///
/// # Errors
/// `InvalidData` for one that is too long.
pub(super) async fn read_line(
    reader: &mut BufReader<OwnedReadHalf>,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    reader.take(most).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        // Too long, or its writer has gone in the middle of it.
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Where the socket of a home is: beside the other sockets of the user, or else in the home.
pub(super) fn place(home: &Path) -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    match (runtime, fs::metadata(home)) {
        (Some(runtime), Ok(found)) if Path::new(&runtime).is_dir() => {
            let name = format!("{:08x}{:08x}.sock", found.dev() as u32, found.ino() as u32);
            Path::new(&runtime).join("hostchat").join(name)
        }
        // Others may run elsewhere.
        _ => fs::canonicalize(home)
            .unwrap_or_else(|_| home.to_owned())
            .join("agent.sock"),
    }
}
