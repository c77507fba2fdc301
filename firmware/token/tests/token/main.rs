//! The token as its host sees it: whole conversations, power cuts, random commands, stored images.
//!
//! Counts can be set: `HOSTCHAT_SEQUENCES` (random command sequences), `HOSTCHAT_FRAMES` (noisy frames), `HOSTCHAT_CROSSINGS`
//! (crossing renewals), `HOSTCHAT_CUTS` (cuts at every n-th flash operation instead of every one). Most of this runs on a chip too: `firmware/boards/check` includes this file and lists what.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

extern crate alloc;

pub(crate) mod contacts;
pub(crate) mod conversation;
#[cfg(test)]
mod crossing;
pub(crate) mod damage;
#[cfg(test)]
mod forward_secrecy;
pub(crate) mod generation;
pub(crate) mod golden;
#[cfg(test)]
mod images;
pub(crate) mod limits;
#[cfg(test)]
mod mirror;
pub(crate) mod noise;
pub(crate) mod pin;
pub(crate) mod power;
pub(crate) mod power_sessions;
pub(crate) mod prekeys;
#[cfg(test)]
mod presence;
pub(crate) mod sessions;
pub(crate) mod support;
pub(crate) mod touch;
#[cfg(test)]
mod wear;

#[cfg(not(test))]
use crate::host::{is_cut, noisy_frames, read};

/// Reads a file of the repository.
#[cfg(test)]
fn read(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// How many noisy frames arrive.
#[cfg(test)]
fn noisy_frames() -> u64 {
    std::env::var("HOSTCHAT_FRAMES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200_000)
}

/// Whether the power goes at this flash operation: at each, or if `HOSTCHAT_CUTS` is n, at every n-th and each erase.
#[cfg(test)]
fn is_cut(at: u64, erases: &[u64]) -> bool {
    let stride = std::env::var("HOSTCHAT_CUTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|stride: &u64| *stride > 0)
        .unwrap_or(1);
    at.is_multiple_of(stride) || erases.contains(&at)
}
