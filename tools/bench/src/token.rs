//! The key token on its boards: what each image takes, and on the emulated Pico the chip's own time.
//!
//! ```text
//!  this program ── Driver ── serial port ──▶ cargo xtask token: the board's image
//!       │ Device: the peer, in memory             │
//!       └──────── control socket: "worked" ──────▶┘   milliseconds of instructions and flash operations
//! ```
//! The stretch of the PIN is the host's work, and a button that is waited for is nobody's: neither is counted.

use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hostchat::model::Pin;
use hostchat::token::Driver;
use hostchat::transport::serial::SerialLink;
use hostchat_core::icd::{Command, Reply};
use hostchat_core::wire::{Address, Bytes, MAX_CONTENT, PrekeyKind};
use hostchat_tests::hostile::device::{Device, NOW};
use hostchat_tests::{Control, Running, World, program};
use zeroize::Zeroizing;

/// A board that there is an image for.
struct Board {
    name: &'static str,
    target: &'static str,
    /// `cargo xtask token` runs its image.
    emulated: bool,
}

/// Every board; one whose image was not built is left out.
const BOARDS: [Board; 4] = [
    Board {
        name: "qemu",
        target: "thumbv7em-none-eabihf",
        emulated: true,
    },
    Board {
        name: "pico",
        target: "thumbv6m-none-eabi",
        emulated: true,
    },
    Board {
        name: "pico2",
        target: "thumbv8m.main-none-eabihf",
        emulated: false,
    },
    Board {
        name: "nrf52840",
        target: "thumbv7em-none-eabihf",
        emulated: false,
    },
];

/// Rounds of messages in each direction; the first message of a round has a ratchet step due.
const ROUNDS: usize = 3;
/// Messages in a round.
const MESSAGES: usize = 4;

/// Prints every figure of the token.
pub(crate) fn token(world: &World) {
    println!(
        "\ntoken, bytes per image (aim: text + data under 262144, data + bss + stack under 163840, stack under 65536)"
    );
    println!("  board          text     data      bss    stack, deepest seen");
    let mut pico = None;
    for board in &BOARDS {
        let elf = board.elf();
        if !elf.is_file() {
            println!("  {:9} not built", board.name);
            continue;
        }
        let [text, data, bss] = sizes(&elf);
        let figures = board.emulated.then(|| measure(board, world));
        let stack = figures.as_ref().map_or_else(
            || "not emulated".to_owned(),
            |figures| figures.stack.to_string(),
        );
        println!("  {:9} {text:9} {data:8} {bss:8} {stack:>8}", board.name);
        if board.name == "pico" {
            pico = figures;
        }
    }
    if let Some(figures) = pico {
        figures.show();
    }
}

impl Board {
    fn elf(&self) -> PathBuf {
        // Beside the host's programs: target/<profile>/xtask, target/<chip>/firmware/<image>.
        let mut path = program("xtask");
        path.pop();
        path.pop();
        path.push(self.target);
        path.push("firmware");
        path.push(format!("token-{}", self.name));
        path
    }
}

/// Text, data and bss, as binutils count them.
fn sizes(elf: &Path) -> [u64; 3] {
    let output = Program::new("size").arg(elf).output().expect("size runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .map(|word| word.parse().expect("a size"));
    std::array::from_fn(|_| numbers.next().expect("three sizes"))
}

/// Milliseconds of the chip, and its deepest stack in bytes.
#[derive(Default)]
struct Figures {
    unlock: Vec<f64>,
    show_code: f64,
    answer_code: f64,
    prekey: f64,
    small: Messages,
    large: Messages,
    stack: u64,
}

/// Messages of one size: without a ratchet step, and with one.
#[derive(Default)]
struct Messages {
    seal: Vec<f64>,
    open: Vec<f64>,
    stepped: Vec<f64>,
}

impl Figures {
    fn show(&self) {
        println!("pico, milliseconds of the chip at 125 MHz:");
        println!(
            "  unlock                     {:8.1}   (aim: under 1000; without the host's stretch)",
            median(&self.unlock)
        );
        println!(
            "  pairing, shows the code    {:8.1}   (aim: under 3000)",
            self.show_code
        );
        println!(
            "  pairing, types the code    {:8.1}   (aim: under 3000)",
            self.answer_code
        );
        println!("  a new prekey               {:8.1}", self.prekey);
        for (bytes, of, aim) in [
            (256, &self.small, "   (aim: under 50)"),
            (MAX_CONTENT, &self.large, ""),
        ] {
            for (name, times) in [("seal", &of.seal), ("open", &of.open)] {
                let time = median(times);
                println!(
                    "  {name} {bytes:4} bytes            {time:8.1}{aim}   {:.0} bytes/s",
                    bytes as f64 / time * 1000.0
                );
            }
            println!(
                "  worst of {bytes:4}, with a step {:8.1}",
                of.stepped.iter().copied().fold(0.0, f64::max)
            );
        }
    }
}

/// A board's image at work, and the wire that says how long it worked.
struct Token {
    driver: Driver,
    control: Option<Control>,
    own: Address,
}

/// Pairs, talks and unlocks on the emulated board.
fn measure(board: &Board, world: &World) -> Figures {
    let link = world.path(&format!("bench-{}.tty", board.name));
    let folder = world.path(&format!("bench-{}", board.name));
    let image = match board.name {
        "pico" => board.elf().with_extension("uf2"),
        _ => board.elf(),
    };
    let running = start(board, &image, &link, &folder);
    let pin = Pin::new(Zeroizing::new(b"a PIN to measure".to_vec())).expect("a PIN");
    let open = || {
        let port = SerialLink::open(&link).expect("the token's port");
        Token {
            driver: Driver::new(
                Box::new(port),
                Arc::new(AtomicBool::new(false)),
                Box::new(|_| {}),
            ),
            control: (board.name == "pico").then(|| Control::open(&folder)),
            own: Address::parse("chip@relay.example:7443").expect("an address"),
        }
    };
    let mut figures = Figures::default();
    let mut token = open();
    token.driver.initialise(&pin).expect("initialised");
    // What an unlock reads back.
    for kind in std::iter::once(PrekeyKind::LastResort).chain([PrekeyKind::OneTime; 16]) {
        figures.prekey = token.time(|token| {
            token.ask(&Command::NewPrekey { kind, now: NOW }, |reply| {
                matches!(reply, Reply::Prekey(_)).then_some(())
            });
        });
    }
    let (mut shown, mut typed) = (
        Device::new("alice@relay.example:7443", 1),
        Device::new("bob@relay.example:7443", 2),
    );
    figures.show_code = token.show_code(&mut shown);
    figures.answer_code = token.answer_code(&mut typed);
    figures.small = token.talk(&mut shown, 256);
    figures.large = token.talk(&mut shown, MAX_CONTENT);
    for _ in 0..3 {
        drop(token);
        token = open();
        let time = token.time(|token| {
            token.driver.unlock(&pin).expect("unlocked");
        });
        figures.unlock.push(time);
    }
    drop(token);
    // The image or its emulator says it when the port is closed, so one more is opened and closed after the last work.
    open().driver.hello().expect("a greeting");
    let ended = running.stop();
    let used = |line: &str| {
        line.strip_prefix("stack: ")?
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    figures.stack = ended.err.lines().filter_map(used).max().expect("a stack");
    figures
}

fn start(board: &Board, image: &Path, link: &Path, folder: &Path) -> Running {
    let mut command = Program::new(program("xtask"));
    command
        .args(["token", "--board", board.name, "--image"])
        .arg(image)
        .arg("--link")
        .arg(link)
        .arg("--dir")
        .arg(folder);
    let running = Running::start(command.stdin(Stdio::null()));
    running.wait_out("the token's port", |line| {
        line.starts_with("ready").then_some(())
    });
    running
}

impl Token {
    /// How long the chip works on something; nothing on a board that cannot tell.
    fn time(&mut self, work: impl FnOnce(&mut Self)) -> f64 {
        let worked = |token: &mut Self| token.control.as_mut().map_or(0.0, Control::worked);
        let before = worked(self);
        work(self);
        worked(self) - before
    }

    fn ask<T>(&mut self, command: &Command<'_>, take: impl FnOnce(Reply<'_>) -> Option<T>) -> T {
        self.driver.command(command, take).expect("done")
    }

    /// The whole of a pairing in which it shows the code, up to the first message; gives the time of the chip.
    fn show_code(&mut self, peer: &mut Device) -> f64 {
        let (own, address) = (self.own.clone(), peer.address.clone());
        let begin = Command::PairBegin {
            own,
            peer: address.clone(),
            accept_changed: false,
        };
        let mut first = Vec::new();
        let time = self.time(|token| {
            let code = token.ask(&begin, |reply| match reply {
                Reply::Code(code) => String::from_utf8(code.0.to_vec()).ok(),
                _ => None,
            });
            let offer = token.ask(&Command::PairOffer, |reply| match reply {
                Reply::Offered(offered) => Some(offered.offer),
                _ => None,
            });
            let (answer, _) = peer.answer(&offer, &code).expect("answered");
            token.ask(&Command::PairConfirm { answer }, |reply| {
                matches!(reply, Reply::Established { .. }).then_some(())
            });
            first = token.seal(&address, b"hello");
        });
        peer.take(&first).expect("the first message");
        time
    }

    /// The whole of a pairing in which it is told the code, the first message included.
    fn answer_code(&mut self, peer: &mut Device) -> f64 {
        let code = peer.begin(&self.own).expect("a code");
        let offer = peer.offer().expect("an offer").offer;
        let mut digits = [0; 6];
        digits.copy_from_slice(code.as_bytes());
        let command = Command::PairAnswer {
            own: self.own.clone(),
            offer,
            code: Bytes(digits),
            accept_changed: false,
        };
        let mut answer = None;
        let answering = self.time(|token| {
            answer = Some(token.ask(&command, |reply| match reply {
                Reply::Answered(answered) => Some(answered.answer),
                _ => None,
            }));
        });
        peer.confirm(&answer.expect("an answer"))
            .expect("confirmed");
        let first = peer.seal(&self.own, b"hello").expect("sealed");
        answering + self.time(|token| token.open(&first))
    }

    /// Messages both ways, in rounds.
    fn talk(&mut self, peer: &mut Device, bytes: usize) -> Messages {
        let content = vec![b'x'; bytes];
        let mut times = Messages::default();
        for _ in 0..ROUNDS {
            for n in 0..MESSAGES {
                let envelope = peer.seal(&self.own, &content).expect("sealed");
                let time = self.time(|token| token.open(&envelope));
                let kind = if n == 0 {
                    &mut times.stepped
                } else {
                    &mut times.open
                };
                kind.push(time);
            }
            for n in 0..MESSAGES {
                let mut envelope = Vec::new();
                let address = peer.address.clone();
                let time = self.time(|token| envelope = token.seal(&address, &content));
                let kind = if n == 0 {
                    &mut times.stepped
                } else {
                    &mut times.seal
                };
                kind.push(time);
                let received = peer.take(&envelope).expect("opened");
                assert_eq!(received.content, content, "what was sealed");
            }
        }
        times
    }

    fn seal(&mut self, peer: &Address, content: &[u8]) -> Vec<u8> {
        let peer = peer.clone();
        self.ask(&Command::Seal { peer, content }, |reply| match reply {
            Reply::Sealed { envelope, .. } => Some(envelope.to_vec()),
            _ => None,
        })
    }

    /// Opens an envelope and commits it.
    fn open(&mut self, envelope: &[u8]) {
        let command = Command::Open {
            own: self.own.clone(),
            envelope,
            accept_changed: false,
        };
        let hash = self.ask(&command, |reply| match reply {
            Reply::Opened(opened) => Some(opened.hash),
            _ => None,
        });
        self.driver
            .done(&Command::Commit { hash })
            .expect("committed");
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
