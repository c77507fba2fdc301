//! The simulator as a host sees it: a serial port, and frames on it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hostchat_core::icd::link::{Deframer, MAX_SERIAL, encode_serial};
use hostchat_core::icd::{
    Activity, Channel, Command as TokenCommand, FromToken, HostUnlock, Lifecycle, LinkError,
    MAX_LINK, Reply, ToToken, UnlockKind,
};
use hostchat_core::wire::{Bytes, codec};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

struct Sim {
    child: Child,
    link: PathBuf,
}

impl Sim {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let link = folder.join("tty");
        let mut child = Command::new(env!("CARGO_BIN_EXE_hostchat-sim"))
            .args([
                "--dir".as_ref(),
                folder.join("t").as_os_str(),
                "--link".as_ref(),
                link.as_os_str(),
            ])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        assert!(line.starts_with("ready: "), "{line}");
        Self { child, link }
    }

    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, Signal::TERM).expect("signalled");
        self.child.wait().expect("ends").code()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Host {
    port: File,
    deframer: Deframer,
    sequence: u8,
    keepalives: Vec<Activity>,
}

impl Host {
    fn connect(sim: &Sim) -> Self {
        let port = File::options()
            .read(true)
            .write(true)
            .open(&sim.link)
            .expect("port opens");
        // A real host sets raw mode as well; the serialport crate does.
        let mut modes = rustix::termios::tcgetattr(&port).expect("a terminal");
        modes.make_raw();
        rustix::termios::tcsetattr(&port, rustix::termios::OptionalActions::Now, &modes)
            .expect("raw");
        Self {
            port,
            deframer: Deframer::new(),
            sequence: 0,
            keepalives: Vec::new(),
        }
    }

    fn send(&mut self, message: &ToToken<'_>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut frame = heapless::Vec::<u8, MAX_SERIAL>::new();
        encode_serial(self.sequence, message, &mut frame).expect("fits");
        self.port.write_all(&frame).expect("written");
    }

    /// The next byte of the token; a failed test, and no hanging one, when there is none.
    fn byte(&mut self) -> u8 {
        let mut ports = [PollFd::new(&self.port, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut ports, Some(&patience)), Ok(1), "silence");
        let mut byte = [0];
        self.port.read_exact(&mut byte).expect("a byte");
        byte[0]
    }

    /// The next message of the token, keepalives noted.
    fn read(&mut self) -> (u8, Vec<u8>) {
        loop {
            let byte = self.byte();
            let Some(Ok((sequence, message))) = self.deframer.push(byte) else {
                continue;
            };
            if let Ok(FromToken::Keepalive(activity)) = codec::decode(message) {
                self.keepalives.push(activity);
                continue;
            }
            return (sequence, message.to_vec());
        }
    }

    /// Reads keepalives until one says that a press is waited for.
    fn wait_until_a_press_is_asked_for(&mut self) {
        self.keepalives.clear();
        while self.keepalives.last() != Some(&Activity::TouchNeeded) {
            let byte = self.byte();
            if let Some(Ok((_, message))) = self.deframer.push(byte) {
                match codec::decode(message).expect("decodes") {
                    FromToken::Keepalive(activity) => self.keepalives.push(activity),
                    other => panic!("not waited for: {other:?}"),
                }
            }
        }
    }

    fn ask(&mut self, message: &ToToken<'_>) -> Vec<u8> {
        self.send(message);
        let (sequence, reply) = self.read();
        assert_eq!(sequence, self.sequence);
        reply
    }

    fn hello(&mut self) -> hostchat_core::icd::Hello {
        match codec::decode(&self.ask(&ToToken::Hello)).expect("decodes") {
            FromToken::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    /// Initialises or unlocks with a CPace password and W, both made of one byte.
    fn open(&mut self, kind: UnlockKind, pin: u8) -> Result<Channel, LinkError> {
        let hello = self.hello();
        let prs: &[u8] = if kind == UnlockKind::Init {
            b""
        } else {
            &[pin; 32]
        };
        let mut rng = ChaCha20Rng::seed_from_u64(u64::from(self.sequence));
        let (run, start) =
            HostUnlock::start(kind, &hello.token_id, &hello.salt, prs, &mut rng).expect("starts");
        let answer = self.ask(&start);
        let answer: FromToken<'_> = codec::decode(&answer).expect("decodes");
        if let FromToken::Refused(error) = answer {
            return Err(error);
        }
        let (mut channel, tag) = run.finish(&answer).map_err(|_| LinkError::WrongPin {
            tries: 0,
            tries_now: 0,
        })?;
        let secret = match kind {
            UnlockKind::Init => [pin; 64].to_vec(),
            UnlockKind::Unlock => vec![pin; 32],
        };
        let mut body = heapless::Vec::<u8, MAX_LINK>::new();
        channel.seal(&secret, &mut body).expect("fits");
        let done = self.ask(&ToToken::UnlockFinish { tag, body: &body });
        match codec::decode(&done).expect("decodes") {
            FromToken::Sealed { counter, body } => {
                let mut plain = heapless::Vec::<u8, MAX_LINK>::new();
                channel.open(counter, body, &mut plain).expect("message 4");
                Ok(channel)
            }
            FromToken::Refused(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn command(
        &mut self,
        channel: &mut Channel,
        command: &TokenCommand<'_>,
    ) -> Result<Vec<u8>, LinkError> {
        let plain: heapless::Vec<u8, MAX_LINK> = codec::encode_vec(command).expect("fits");
        let mut body = heapless::Vec::<u8, MAX_LINK>::new();
        let counter = channel.seal(&plain, &mut body).expect("fits");
        let reply = self.ask(&ToToken::Sealed {
            counter,
            body: &body,
        });
        match codec::decode(&reply).expect("decodes") {
            FromToken::Sealed { counter, body } => {
                let mut plain = heapless::Vec::<u8, MAX_LINK>::new();
                channel.open(counter, body, &mut plain).expect("opens");
                Ok(plain.to_vec())
            }
            FromToken::Refused(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn identity(&mut self, channel: &mut Channel) -> Bytes<32> {
        let reply = self
            .command(channel, &TokenCommand::Identity)
            .expect("unlocked");
        match codec::decode(&reply).expect("decodes") {
            Reply::Identity(claim) => claim.verify().expect("sound").claim().sign,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_token_is_set_up_locks_at_hang_up_and_keeps_its_identity_over_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let mut sim = Sim::start(folder.path(), &[]);
    let mut host = Host::connect(&sim);
    assert_eq!(host.hello().lifecycle, Lifecycle::Blank);
    let mut channel = host.open(UnlockKind::Init, 7).expect("initialised");
    let identity = host.identity(&mut channel);

    drop(host);
    let mut host = Host::connect(&sim);
    assert_eq!(host.hello().lifecycle, Lifecycle::Ready);
    // The token noticed the hang-up, or it will refuse the old channel's counter all the same once it has.
    let mut channel = host.open(UnlockKind::Unlock, 7).expect("right PIN");
    assert_eq!(host.identity(&mut channel), identity);

    assert_eq!(sim.stop(), Some(0));
    assert!(
        !sim.link.exists() && !sim.link.is_symlink(),
        "the link is gone"
    );
    let sim = Sim::start(folder.path(), &[]);
    let mut host = Host::connect(&sim);
    let tries = host.hello().tries;
    assert!(host.open(UnlockKind::Unlock, 8).is_err(), "wrong PIN");
    assert_eq!(host.hello().tries, tries - 1);
    let mut channel = host.open(UnlockKind::Unlock, 7).expect("right PIN");
    assert_eq!(host.identity(&mut channel), identity);
    assert_eq!(host.hello().tries, tries);
}

#[test]
fn while_a_press_is_waited_for_keepalives_say_so_and_a_cancel_ends_it() {
    let folder = tempfile::tempdir().expect("folder");
    let button = folder.path().join("button");
    std::fs::write(&button, "held since boot").expect("button held");
    let sim = Sim::start(
        folder.path(),
        &[
            "--presence",
            "button",
            "--button",
            button.to_str().expect("a path"),
        ],
    );
    let mut host = Host::connect(&sim);
    let hello = host.hello();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (_, start) = HostUnlock::start(
        UnlockKind::Init,
        &hello.token_id,
        &hello.salt,
        b"",
        &mut rng,
    )
    .expect("starts");
    // Begun and waited for: the first sign of it is a keepalive, though the button is held.
    host.send(&start);
    host.wait_until_a_press_is_asked_for();
    // Another request meanwhile is refused and disturbs nothing.
    let busy = host.ask(&ToToken::Hello);
    assert_eq!(
        codec::decode(&busy),
        Ok(FromToken::Refused(LinkError::Busy))
    );
    host.send(&ToToken::Cancel);
    let (_, reply) = host.read();
    assert_eq!(
        codec::decode(&reply),
        Ok(FromToken::Refused(LinkError::Cancelled))
    );
    assert_eq!(host.hello().lifecycle, Lifecycle::Blank);

    // A press that comes during the wait counts.
    host.send(&start);
    host.wait_until_a_press_is_asked_for();
    std::fs::write(&button, "pressed").expect("button pressed");
    let (_, reply) = host.read();
    assert!(
        matches!(codec::decode(&reply), Ok(FromToken::UnlockAnswer { .. })),
        "{reply:?}"
    );
}

#[test]
fn noise_on_the_line_is_passed_over() {
    let folder = tempfile::tempdir().expect("folder");
    let sim = Sim::start(folder.path(), &[]);
    let mut host = Host::connect(&sim);
    let id = host.hello().token_id;
    for seed in 0..200u64 {
        let mut noise = vec![0; 1 + (seed as usize * 37) % 600];
        rand_chacha::rand_core::Rng::fill_bytes(&mut ChaCha20Rng::seed_from_u64(seed), &mut noise);
        host.port.write_all(&noise).expect("written");
        assert_eq!(host.hello().token_id, id, "in step again at the next frame");
    }
}

#[test]
fn one_flash_serves_one_process_and_a_file_is_never_replaced_by_the_link() {
    let folder = tempfile::tempdir().expect("folder");
    let _sim = Sim::start(folder.path(), &[]);
    let start = |link: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_hostchat-sim"))
            .args([
                "--dir".as_ref(),
                folder.path().join("t").as_os_str(),
                "--link".as_ref(),
                link.as_os_str(),
            ])
            .output()
            .expect("runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = start(&folder.path().join("other"));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("in use by") && said.contains("hint:"),
        "{said}"
    );

    let precious = folder.path().join("precious");
    std::fs::write(&precious, "data").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_hostchat-sim"))
        .args([
            "--dir".as_ref(),
            folder.path().join("u").as_os_str(),
            "--link".as_ref(),
            precious.as_os_str(),
        ])
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&precious).expect("there"), "data");
}
