//! The control socket of the emulated Pico: a line, an answer (`tools/pico-sim/src/control.mjs`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::process::PATIENCE;

/// A connection to an emulator; over when the chip's power goes.
pub struct Control {
    lines: BufReader<UnixStream>,
}

impl Control {
    /// Connects to the emulator of the token in `folder`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn open(folder: &Path) -> Self {
        let socket = UnixStream::connect(folder.join("control")).expect("the emulator");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        Self {
            lines: BufReader::new(socket),
        }
    }

    /// Milliseconds that the chip has worked since power-up.
    ///
    /// # Panics
    /// If the emulator has ended.
    pub fn worked(&mut self) -> f64 {
        self.ask("worked").parse().expect("milliseconds")
    }

    /// Waits until the image looks at its button again, and says how it sees it.
    ///
    /// # Panics
    /// If the emulator has ended, or nobody looks for [`PATIENCE`].
    pub fn look(&mut self) -> Button {
        match self.ask("look").as_str() {
            "down" => Button::Down,
            "up" => Button::Up,
            other => panic!("the emulator said {other:?}"),
        }
    }

    /// Lets the power go in the middle of the n-th flash operation from now; `seed` says which cells it leaves changed.
    ///
    /// # Panics
    /// If the emulator has ended.
    pub fn cut(&mut self, count: u32, seed: u32) {
        assert_eq!(self.ask(&format!("cut {count} {seed}")), "armed");
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.lines.get_mut(), "{line}").expect("asked");
        let mut answer = String::new();
        self.lines.read_line(&mut answer).expect("an answer");
        answer.trim_end().to_owned()
    }
}

/// How a button was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// Held.
    Down,
    /// Let go.
    Up,
}
