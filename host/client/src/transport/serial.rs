//! A token on a serial port.
//!
//! ```text
//!  00 COBS(sequence ‖ message ‖ CRC) 00 ──▶        a keepalive at least every 100 ms while the token is busy
//!                                       ◀── 00 COBS(sequence ‖ ...) 00
//! ```
//!
//! Invariant: a request that got no answer is repeated byte for byte, which the token answers from its cache: it never
//! executes a request twice. The port is held exclusively; dropping the link closes it, and the token locks itself. No
//! read and no write blocks, whatever other programs do with the port.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hostchat_core::error::{Decode, Error as CoreError};
use hostchat_core::icd::link::{self, Deframer, MAX_SERIAL};
use hostchat_core::icd::{Activity, FromToken, SILENCE_MS, TOUCH_TIMEOUT_MS, ToToken};
use hostchat_core::wire::codec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, OFlags, flock};
use serialport::{ClearBuffer, SerialPort as _, TTYPort};

use super::holder::holder;
use super::{Link, LinkBuffer};
use crate::error::{Error, Holder, Result};

/// Baud rate that is asked for; USB and pseudo-terminals ignore it.
const BAUD: u32 = 115_200;
/// How long one read waits, so that a wish to cancel is noticed soon.
const TICK: Duration = Duration::from_millis(50);
/// How often a request is sent in all before the token is given up.
const ATTEMPTS: u8 = 3;

/// How long the token may say that it works on one request: four times as long as it waits for a touch.
const PATIENCE: Duration = Duration::from_millis(4 * TOUCH_TIMEOUT_MS);

/// An open port.
pub struct SerialLink {
    /// Reads and writes, without blocking.
    file: File,
    /// Keeps the port exclusive, and its settings.
    _port: TTYPort,
    path: String,
    deframer: Deframer,
    sequence: u8,
    patience: Duration,
}

impl SerialLink {
    /// Opens the port exclusively.
    ///
    /// # Errors
    /// `TokenBusy` with the holder, `TokenDenied`, `TokenAbsent`.
    pub fn open(path: &Path) -> Result<Self> {
        let name = crate::escape::escape(&path.to_string_lossy()).into_owned();
        let absent = |why: String| Error::TokenAbsent {
            path: name.clone(),
            why,
        };
        let busy = || Error::TokenBusy {
            path: name.clone(),
            holder: holder(path),
        };
        let text = path
            .to_str()
            .ok_or_else(|| absent("not a UTF-8 path".into()))?;
        let file = open_file(path).map_err(|why| match why.kind() {
            io::ErrorKind::ResourceBusy => busy(),
            io::ErrorKind::PermissionDenied => Error::TokenDenied(name.clone()),
            _ => absent(crate::error::plain(&why)),
        })?;
        if !rustix::termios::isatty(&file) {
            return Err(absent("it is not a serial port".into()));
        }
        if is_locked(&file) {
            return Err(busy());
        }
        let mut port =
            TTYPort::open(&serialport::new(text, BAUD)).map_err(|error| match error.kind {
                // Somebody else has taken it this moment.
                serialport::ErrorKind::NoDevice if is_locked(&file) => busy(),
                _ => absent("it cannot be set up as a serial port".into()),
            })?;
        // Tells a real port that a host is there; a pseudo-terminal has no such line (ENOTTY).
        let _ = port.write_data_terminal_ready(true);
        let _ = port.clear(ClearBuffer::Input);
        Ok(Self {
            file,
            _port: port,
            path: name,
            deframer: Deframer::new(),
            sequence: crate::os::random::<1>()[0],
            patience: PATIENCE,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(SILENCE_MS);
        let mut rest = bytes;
        while !rest.is_empty() {
            wait_for(&self.file, PollFlags::OUT);
            match self.file.write(rest) {
                Ok(0) => return Err(self.unplugged()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if is_pause(&error) && Instant::now() < until => {}
                Err(error) if is_pause(&error) => return Err(self.silent()),
                Err(_) => return Err(self.unplugged()),
            }
        }
        Ok(())
    }

    fn unplugged(&self) -> Error {
        Error::TokenUnplugged(self.path.clone())
    }

    fn silent(&self) -> Error {
        Error::TokenSilent {
            path: self.path.clone(),
            also: self.also_open(),
        }
    }

    fn not_a_token(&self) -> Error {
        Error::NotAToken {
            path: self.path.clone(),
            also: self.also_open(),
        }
    }

    /// Waits for the answer with our sequence number; `None` after a silence.
    fn wait(
        &mut self,
        reply: &mut LinkBuffer,
        alive: &mut dyn FnMut(Option<Activity>) -> bool,
    ) -> Result<Option<()>> {
        let (asked, mut heard) = (Instant::now(), Instant::now());
        let mut cancelled = false;
        let mut chunk = [0; 512];
        loop {
            wait_for(&self.file, PollFlags::IN);
            let n = self.read(&mut chunk)?;
            let mut activity = None;
            for &byte in chunk.get(..n).unwrap_or_default() {
                match self.deframer.push(byte) {
                    None => {}
                    Some(Ok((sequence, message))) if sequence == self.sequence => {
                        match codec::decode::<FromToken<'_>>(message) {
                            Ok(FromToken::Keepalive(now)) => activity = Some(now),
                            Ok(_) => {
                                reply.clear();
                                return match reply.extend_from_slice(message) {
                                    Ok(()) => Ok(Some(())),
                                    Err(_) => Err(self.not_a_token()),
                                };
                            }
                            Err(_) => return Err(self.not_a_token()),
                        }
                        heard = Instant::now();
                    }
                    // An answer to an earlier request that was given up, or noise: the silence decides.
                    Some(
                        Ok(_)
                        | Err(
                            CoreError::Decode(
                                Decode::Malformed | Decode::Truncated | Decode::TooLong,
                            )
                            | _,
                        ),
                    ) => {}
                }
            }
            if alive(activity) && !cancelled {
                cancelled = true;
                self.send(&encode(&ToToken::Cancel)?)?;
            }
            if heard.elapsed() > Duration::from_millis(SILENCE_MS) {
                return Ok(None);
            }
            if asked.elapsed() > self.patience {
                return Err(Error::TokenStuck(self.path.clone()));
            }
        }
    }

    /// What has come, without waiting for it.
    fn read(&mut self, chunk: &mut [u8]) -> Result<usize> {
        match self.file.read(chunk) {
            Ok(0) if is_hung_up(&self.file) => Err(self.unplugged()),
            Ok(n) => Ok(n),
            Err(error) if is_pause(&error) => Ok(0),
            Err(_) => Err(self.unplugged()),
        }
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        let mut frame = heapless::Vec::<u8, MAX_SERIAL>::new();
        link::encode_serial_raw(self.sequence, message, &mut frame)
            .map_err(|_| Error::Internal("request too long"))?;
        self.write(&frame)
    }
}

impl Link for SerialLink {
    fn exchange(
        &mut self,
        request: &[u8],
        reply: &mut LinkBuffer,
        alive: &mut dyn FnMut(Option<Activity>) -> bool,
    ) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        for _ in 0..ATTEMPTS {
            self.send(request)?;
            if let Some(()) = self.wait(reply, alive)? {
                return Ok(());
            }
        }
        Err(self.silent())
    }

    fn describe(&self) -> &str {
        &self.path
    }

    fn port(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn idle(&mut self) -> Result<()> {
        let mut chunk = [0; 512];
        self.read(&mut chunk).map(|_| ())
    }

    fn also_open(&self) -> Option<Holder> {
        holder(Path::new(&self.path))
    }
}

fn encode(message: &ToToken<'_>) -> Result<LinkBuffer> {
    codec::encode_vec(message).map_err(|_| Error::Internal("request too long"))
}

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Waits a tick at most until the port can be read or written.
fn wait_for(file: &File, what: PollFlags) {
    let tick = Timespec::try_from(TICK).ok();
    // Whatever keeps it from waiting, the read or write that follows finds out.
    let _ = poll(&mut [PollFd::new(file, what)], tick.as_ref());
}

/// Whether the other end is gone. Nothing read does not say so: another program may change the port's settings.
fn is_hung_up(file: &File) -> bool {
    let mut port = [PollFd::new(file, PollFlags::empty())];
    let polled = poll(&mut port, Some(&Timespec::default()));
    let [port] = port;
    polled.is_err() || port.revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Whether another program has locked the port.
fn is_locked(file: &File) -> bool {
    let locked = flock(file, FlockOperation::NonBlockingLockExclusive).is_err();
    let _ = flock(file, FlockOperation::Unlock);
    locked
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Sequence and message of each.
    type Frames = Vec<(u8, Vec<u8>)>;

    /// A token of a few lines at the other end of a pseudo-terminal: answers each frame by `answer`.
    fn token(
        mut master: TTYPort,
        frames: usize,
        answer: impl Fn(usize, u8, &[u8]) -> Vec<u8> + Send + 'static,
    ) -> thread::JoinHandle<(TTYPort, Frames)> {
        thread::spawn(move || {
            let mut deframer = Deframer::new();
            let mut seen = Vec::new();
            let mut byte = [0];
            while seen.len() < frames {
                match master.read(&mut byte) {
                    Ok(1) => {}
                    Err(error) if is_pause(&error) => continue,
                    _ => break,
                }
                let frame = deframer
                    .push(byte[0])
                    .map(|r| r.map(|(s, m)| (s, m.to_vec())));
                if let Some(Ok((sequence, message))) = frame {
                    master
                        .write_all(&answer(seen.len(), sequence, &message))
                        .unwrap();
                    seen.push((sequence, message));
                }
            }
            // The master has to stay open until the host has read everything.
            (master, seen)
        })
    }

    fn pair() -> (TTYPort, SerialLink) {
        let (master, slave) = TTYPort::pair().unwrap();
        let name = slave.name().unwrap();
        drop(slave);
        let link = SerialLink::open(Path::new(&name)).unwrap();
        (master, link)
    }

    fn frame(sequence: u8, message: &FromToken<'_>) -> Vec<u8> {
        let mut out = heapless::Vec::<u8, MAX_SERIAL>::new();
        link::encode_serial(sequence, message, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn keepalives_and_noise_and_old_answers_are_passed_over() {
        let (master, mut link) = pair();
        let token = token(master, 1, |_, sequence, _| {
            let mut bytes = vec![1, 2, 3, 0];
            bytes.extend(frame(sequence.wrapping_sub(1), &FromToken::Done));
            bytes.extend(frame(
                sequence,
                &FromToken::Keepalive(Activity::TouchNeeded),
            ));
            bytes.extend(frame(sequence, &FromToken::Done));
            bytes
        });
        let mut reply = LinkBuffer::new();
        let mut seen = Vec::new();
        link.exchange(b"abc", &mut reply, &mut |activity| {
            seen.extend(activity);
            false
        })
        .unwrap();
        assert_eq!(codec::decode::<FromToken<'_>>(&reply), Ok(FromToken::Done));
        assert_eq!(token.join().unwrap().1[0].1, b"abc");
    }

    #[test]
    fn a_request_without_an_answer_is_repeated_byte_for_byte() {
        let (master, mut link) = pair();
        let token = token(master, 2, |n, sequence, _| {
            if n == 0 {
                Vec::new()
            } else {
                frame(sequence, &FromToken::Done)
            }
        });
        let mut reply = LinkBuffer::new();
        link.exchange(b"abc", &mut reply, &mut |_| false).unwrap();
        let (_master, seen) = token.join().unwrap();
        assert_eq!(seen[0], seen[1]);
    }

    #[test]
    fn a_wish_to_cancel_is_passed_on_once() {
        let (master, mut link) = pair();
        let token = token(master, 2, |n, sequence, message| {
            if n == 0 {
                frame(sequence, &FromToken::Keepalive(Activity::TouchNeeded))
            } else {
                assert_eq!(codec::decode::<ToToken<'_>>(message), Ok(ToToken::Cancel));
                frame(sequence, &FromToken::Done)
            }
        });
        let mut reply = LinkBuffer::new();
        link.exchange(b"abc", &mut reply, &mut |activity| {
            activity == Some(Activity::TouchNeeded)
        })
        .unwrap();
        assert_eq!(token.join().unwrap().1.len(), 2);
    }

    #[test]
    fn a_token_that_only_says_that_it_works_is_given_up() {
        let (mut master, mut link) = pair();
        link.patience = Duration::from_millis(300);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let token = thread::spawn(move || {
            let sequences = (0..=u8::MAX).cycle();
            for sequence in sequences {
                let keepalive = frame(sequence, &FromToken::Keepalive(Activity::Processing));
                if master.write_all(&keepalive).is_err() || stopped.try_recv().is_ok() {
                    return master;
                }
            }
            master
        });
        let error = link
            .exchange(b"abc", &mut LinkBuffer::new(), &mut |_| false)
            .unwrap_err();
        assert!(matches!(error, Error::TokenStuck(_)), "{error}");
        stop.send(()).unwrap();
        drop(link);
        drop(token.join().unwrap());
    }

    #[test]
    fn an_unplugged_port_is_told_from_an_absent_one() {
        let (master, mut link) = pair();
        drop(master);
        let error = link
            .exchange(b"abc", &mut LinkBuffer::new(), &mut |_| false)
            .unwrap_err();
        assert!(matches!(error, Error::TokenUnplugged(_)), "{error}");
        let error = SerialLink::open(Path::new("/nowhere/tty")).err().unwrap();
        assert!(matches!(error, Error::TokenAbsent { .. }), "{error}");
    }

    #[test]
    fn a_port_that_somebody_holds_is_busy() {
        let (_master, link) = pair();
        let error = SerialLink::open(Path::new(link.describe())).err().unwrap();
        assert!(matches!(error, Error::TokenBusy { .. }), "{error}");
    }
}
