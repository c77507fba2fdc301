//! The administration socket: a Unix socket that only the relay's own user, and root, can open.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::protocol::{self, Answer, Refused, Reply, VERSION};
use crate::limits::{ADMIN_ANSWER, ADMIN_CONNECTIONS, ADMIN_MS, ADMIN_REQUEST};
use crate::seats;
use crate::server::Relay;

/// Listens at `path`. A socket that is there belongs to a relay that has ended, since only one runs on a folder.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    // Nobody can connect before `listen`, so that the mode is set in time.
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, 16)?;
    UnixListener::from_std(socket.into())
}

/// Answers until it is aborted.
pub(crate) async fn serve(relay: Arc<Relay>, listener: UnixListener) {
    seats::serve(
        relay,
        ADMIN_CONNECTIONS,
        ADMIN_MS,
        |context| listener.poll_accept(context),
        |relay, (mut stream, _)| async move { exchange(&relay, &mut stream).await },
    )
    .await;
}

async fn exchange(relay: &Relay, stream: &mut UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = peer, "administration refused to another user");
        return Ok(());
    }
    let answer = match read_line(stream).await? {
        Some(line) => match protocol::request_from(&line) {
            Ok(call) => super::answer(relay, call).await,
            Err(refused) => Answer::Refused(refused),
        },
        None => Answer::Refused(Refused::BadRequest),
    };
    let version = VERSION;
    let mut line = protocol::line_of(&Reply { version, answer })?;
    if line.len() > ADMIN_ANSWER {
        let answer = Answer::Refused(Refused::Internal);
        line = protocol::line_of(&Reply { version, answer })?;
    }
    stream.write_all(&line).await?;
    stream.shutdown().await
}

/// One line without its end; `None` if it is longer than a request.
async fn read_line(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::with_capacity(256);
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(Some(line));
        }
        if line.len() >= ADMIN_REQUEST {
            return Ok(None);
        }
        let room = (ADMIN_REQUEST - line.len()) as u64;
        if (&mut *stream).take(room).read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
