//! Files and output by semihosting, and the heap.

use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use embedded_alloc::TlsfHeap;
use hostchat_boards::qemu::host::{File, Mode, fail};

/// Bytes that one call asks the host for.
const PIECE: usize = 16 * 1024;
/// The power goes at every n-th flash operation, so that a run takes seconds; the host takes every one.
const CUTS: u64 = 64;
/// Longest path, its zero included.
const MAX_PATH: usize = 128;

#[global_allocator]
static HEAP: TlsfHeap = TlsfHeap::empty();

/// The board's PSRAM (ARM DAI0386, memory map), which the image has no other use for.
const PSRAM: usize = 0x2100_0000;
const PSRAM_BYTES: usize = 16 << 20;

/// Gives the heap its memory. To be called once, before anything allocates.
pub(crate) fn start_heap() {
    // SAFETY: `main` calls this once and first; the memory is there, and the memory map gives it to nothing else.
    unsafe { HEAP.init(PSRAM, PSRAM_BYTES) };
}

/// Reads a file of the repository.
pub(crate) fn read(path: &str) -> Vec<u8> {
    let mut name = [0; MAX_PATH];
    let opened = name
        .get_mut(..path.len())
        .map(|place| place.copy_from_slice(path.as_bytes()))
        .and_then(|()| CStr::from_bytes_until_nul(&name).ok())
        .and_then(|name| File::open(name, Mode::Read).ok());
    let Some(mut file) = opened else {
        fail(format_args!("{path}: cannot be opened"));
    };
    let mut content = alloc::vec![0; file.length().unwrap_or(0)];
    if content
        .chunks_mut(PIECE)
        .any(|piece| file.read(piece).is_err())
    {
        fail(format_args!("{path}: cannot be read"));
    }
    content
}

/// Reads a text file of the repository.
pub(crate) fn text(path: &str) -> String {
    match String::from_utf8(read(path)) {
        Ok(text) => text,
        Err(_) => fail(format_args!("{path}: no text")),
    }
}

/// How many noisy frames arrive: as many as take seconds here; the host has more.
pub(crate) fn noisy_frames() -> u64 {
    10_000
}

/// Whether the power goes at this flash operation.
pub(crate) fn is_cut(at: u64, _erases: &[u64]) -> bool {
    at.is_multiple_of(CUTS)
}
