//! The button: a press is a file that appears on the host; the token removes it.

use core::ffi::CStr;

use hostchat_core::icd::TOUCH_TIMEOUT_MS;
use hostchat_token::env::Touch;

use super::uart::PORT;
use super::{clock, host};
use crate::serve::Line as _;

/// Longest path of the button's file, with its zero byte.
const LONGEST: usize = 1024;

/// The button.
pub struct Button {
    path: [u8; LONGEST],
}

impl Button {
    /// Takes the path from the command line.
    ///
    /// Without one that fits there is no button, and every wait times out.
    #[must_use]
    pub fn from_command_line() -> Self {
        let mut path = [0; LONGEST];
        if host::command_line(&mut path).is_err() {
            path = [0; LONGEST];
        }
        Self { path }
    }

    /// Waits for a press that begins now; the processor sleeps between two looks.
    pub fn wait(&mut self) -> Touch {
        // A file that is there already is a button held since before, or since boot: it does not count.
        self.is_down();
        let begin = clock::uptime_ms();
        PORT.with_port(|port| port.set_touch_needed(true));
        let touch = PORT.wait(|port| {
            if port.is_cancelled() {
                Some(Touch::Cancelled)
            } else if self.is_down() {
                Some(Touch::Pressed)
            } else {
                (clock::uptime_ms() - begin >= TOUCH_TIMEOUT_MS).then_some(Touch::TimedOut)
            }
        });
        PORT.with_port(|port| port.set_touch_needed(false));
        touch
    }

    /// Whether the file is there; takes it away.
    fn is_down(&self) -> bool {
        CStr::from_bytes_until_nul(&self.path)
            .is_ok_and(|path| !path.is_empty() && host::remove(path))
    }
}
