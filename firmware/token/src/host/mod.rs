//! The token on a host: its flash in a file, randomness and clocks from the operating system.
//!
//! The client's software token and `hostchat-sim` are both this, with another name and another finger.
//!
//! ```text
//!  open(path, HostConfig{board, wipes, touch}) ──▶ App<HostEnv> ── handle(request) ──▶ reply
//!                                                     └── FileFlash: clears bits only, fdatasync = PERSIST
//! ```

mod env;
mod flash;

use std::path::Path;

pub use env::{HostConfig, HostEnv, OsRng, TouchSource};
pub use flash::{FileFlash, HostError};

use crate::app::{App, StartError};

/// Opens the token that lives in the file at `path`, or a blank one if there is no such file.
///
/// The file is locked for as long as the application lives; work on it blocks.
///
/// # Errors
///
/// [`HostError`]: busy, of another size, no space, or what the operating system says. A file whose *contents* are
/// damaged opens; the token then calls itself damaged.
pub fn open(path: &Path, config: HostConfig) -> Result<App<HostEnv>, HostError> {
    let flash = FileFlash::open(path)?;
    embassy_futures::block_on(App::new(HostEnv::new(config), flash)).map_err(|error| match error {
        StartError::Geometry => HostError::Damaged,
        StartError::Flash => HostError::Storage,
    })
}
