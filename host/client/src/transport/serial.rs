//! A token on a serial port.
//!
//! ```text
//!  00 COBS(sequence ‖ message ‖ CRC) 00 ──▶        a keepalive at least every 100 ms while the token is busy
//!                                       ◀── 00 COBS(sequence ‖ ...) 00
//! ```
//!
//! Invariant: a request that got no answer is repeated byte for byte, which the token answers from its cache: it never
//! executes a request twice. The port is held exclusively; dropping the link closes it, and the token locks itself.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostchat_core::error::{Decode, Error as CoreError};
use hostchat_core::icd::link::{self, Deframer, MAX_SERIAL};
use hostchat_core::icd::{Activity, FromToken, SILENCE_MS, ToToken};
use hostchat_core::wire::codec;
use serialport::{ClearBuffer, SerialPort as _, TTYPort};

use super::{Link, LinkBuffer};
use crate::error::{Error, Holder, Result};

/// Baud rate that is asked for; USB and pseudo-terminals ignore it.
const BAUD: u32 = 115_200;
/// How long one read waits, so that a wish to cancel is noticed soon.
const TICK: Duration = Duration::from_millis(50);
/// How often a request is sent in all before the token is given up.
const ATTEMPTS: u8 = 3;

/// An open port.
pub struct SerialLink {
    port: TTYPort,
    path: String,
    deframer: Deframer,
    sequence: u8,
}

impl SerialLink {
    /// Opens the port exclusively.
    ///
    /// # Errors
    /// `TokenBusy` with the holder, `TokenAbsent`.
    pub fn open(path: &Path) -> Result<Self> {
        let name = crate::escape::escape(&path.to_string_lossy()).into_owned();
        let text = path.to_str().ok_or_else(|| Error::TokenAbsent {
            path: name.clone(),
            why: "not a UTF-8 path".into(),
        })?;
        let mut port =
            TTYPort::open(&serialport::new(text, BAUD).timeout(TICK)).map_err(|error| {
                // A busy port is reported as an absent one.
                match (holder(path), &error.kind) {
                    (Some(holder), _) => Error::TokenBusy {
                        path: name.clone(),
                        holder: Some(holder),
                    },
                    (None, serialport::ErrorKind::NoDevice) if is_busy(path) => Error::TokenBusy {
                        path: name.clone(),
                        holder: None,
                    },
                    (None, _) => Error::TokenAbsent {
                        path: name.clone(),
                        why: absent_text(path, &error),
                    },
                }
            })?;
        // Tells a real port that a host is there; a pseudo-terminal has no such line (ENOTTY).
        let _ = port.write_data_terminal_ready(true);
        let _ = port.clear(ClearBuffer::Input);
        Ok(Self {
            port,
            path: name,
            deframer: Deframer::new(),
            sequence: crate::os::random::<1>()[0],
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(SILENCE_MS);
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.port.write(rest) {
                Ok(0) => return Err(Error::TokenUnplugged(self.path.clone())),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if is_pause(&error) && Instant::now() < until => {}
                Err(error) if is_pause(&error) => {
                    return Err(Error::TokenSilent(self.path.clone()));
                }
                Err(_) => return Err(Error::TokenUnplugged(self.path.clone())),
            }
        }
        Ok(())
    }

    /// Waits for the answer with our sequence number; `None` after a silence.
    fn wait(
        &mut self,
        reply: &mut LinkBuffer,
        alive: &mut dyn FnMut(Option<Activity>) -> bool,
    ) -> Result<Option<()>> {
        let mut heard = Instant::now();
        let mut cancelled = false;
        let mut chunk = [0; 512];
        loop {
            let n = match self.port.read(&mut chunk) {
                Ok(0) => return Err(Error::TokenUnplugged(self.path.clone())),
                Ok(n) => n,
                Err(error) if is_pause(&error) => 0,
                Err(_) => return Err(Error::TokenUnplugged(self.path.clone())),
            };
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
                                    Err(_) => Err(Error::NotAToken(self.path.clone())),
                                };
                            }
                            Err(_) => return Err(Error::NotAToken(self.path.clone())),
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
        Err(Error::TokenSilent(self.path.clone()))
    }

    fn describe(&self) -> &str {
        &self.path
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

fn is_busy(path: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt as _;

    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    match opened {
        Err(error) => error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()),
        Ok(file) => {
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
        }
    }
}

fn absent_text(path: &Path, error: &serialport::Error) -> String {
    match fs::metadata(path) {
        Err(why) => crate::error::plain(&why),
        Ok(_) => crate::escape::escape(&error.description).into_owned(),
    }
}

/// Finds who has the port open and locked, through `/proc`; only processes that we may look at.
///
/// A simulated token holds its own end of a pseudo-terminal open without a lock; it is not meant.
fn holder(path: &Path) -> Option<Holder> {
    let device = fs::canonicalize(path).ok()?;
    if !is_busy(path) {
        return None;
    }
    let own = std::process::id();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let directory = entry.path();
        (pid != own && locks(&directory, &device)).then(|| {
            let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
            Holder {
                pid,
                program: crate::escape::escape(name.trim_end()).into_owned(),
            }
        })
    })
}

/// Whether a process has `device` open, with a lock on it if the kernel shows locks.
fn locks(process: &Path, device: &Path) -> bool {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    let files: Vec<PathBuf> = open
        .flatten()
        .filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == device))
        .map(|fd| fd.path())
        .collect();
    files.iter().any(|fd| {
        let info = fd
            .file_name()
            .map(|number| process.join("fdinfo").join(number));
        info.and_then(|path| fs::read_to_string(path).ok())
            .is_none_or(|text| text.contains("FLOCK"))
    })
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
