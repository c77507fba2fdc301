//! `cargo xtask firmware`: builds a board's image, shows how large it is, and holds it to its limits.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::image::{Image, elf, hex, uf2};
use crate::setup::debian_packages;
use crate::step::{Failed, Step, program};

/// Most bytes of an image for use.
const MAX_FLASH: usize = 256 << 10;
/// Most bytes of statics: with 56 KiB of stack, which is what tests see used, 160 KiB of RAM.
const MAX_STATICS: u64 = 104 << 10;
/// What every image with a log has: the place where a debug probe finds it.
const LOG_MARK: &[u8] = b"_SEGGER_RTT";

/// A board that there is an image for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// nRF52840 dongle (PCA10059).
    Nrf52840,
    /// Raspberry Pi Pico (RP2040).
    Pico,
    /// Raspberry Pi Pico 2 (RP2350).
    Pico2,
    /// QEMU's mps2-an386 (Cortex-M4), for tests.
    Qemu,
}

impl Board {
    /// All boards.
    pub(crate) const ALL: [Self; 4] = [Self::Nrf52840, Self::Pico, Self::Pico2, Self::Qemu];

    /// The board's name on command lines, which is its feature as well.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::Nrf52840 => "nrf52840",
            Self::Pico => "pico",
            Self::Pico2 => "pico2",
            Self::Qemu => "qemu",
        }
    }

    fn binary(self) -> &'static str {
        match self {
            Self::Nrf52840 => "token-nrf52840",
            Self::Pico => "token-pico",
            Self::Pico2 => "token-pico2",
            Self::Qemu => "token-qemu",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Pico => "thumbv6m-none-eabi",
            Self::Pico2 => "thumbv8m.main-none-eabihf",
            Self::Nrf52840 | Self::Qemu => "thumbv7em-none-eabihf",
        }
    }

    /// Its image; one with a log has a folder of its own, so that nobody takes it for the other.
    fn image(self, log: Log) -> Image {
        let (profile, features, kind) = match log {
            Log::None => ("firmware", self.feature().to_owned(), ""),
            Log::Rtt => (
                "firmware-log",
                format!("{},log", self.feature()),
                " with a log",
            ),
        };
        Image {
            name: format!("firmware for {}{kind}", self.feature()),
            package: "hostchat-boards",
            features,
            binary: self.binary(),
            target: self.target(),
            profile,
            libraries: "core",
        }
    }
}

/// What an image tells a debug probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// Nothing: an image for use.
    None,
    /// What it does, and why it resets, over RTT.
    Rtt,
}

impl Log {
    /// From a flag on the command line.
    pub(crate) fn from_flag(log: bool) -> Self {
        if log { Self::Rtt } else { Self::None }
    }
}

/// The steps that lint the code of all boards: with the log where there is one, which only adds code.
pub(crate) fn lint_steps() -> Vec<Step> {
    let lint = |board: Board| {
        let log = if board == Board::Qemu {
            Log::None
        } else {
            Log::Rtt
        };
        board.image(log).lint_step()
    };
    Board::ALL.into_iter().map(lint).collect()
}

/// Where [`build`] puts the ELF file.
pub(crate) fn elf(board: Board, log: Log) -> PathBuf {
    board.image(log).path()
}

/// Builds the image, and refuses one that is too large or says too much; gives the file that the board takes.
pub(crate) fn build(board: Board, log: Log) -> Result<PathBuf, Failed> {
    if (board, log) == (Board::Qemu, Log::Rtt) {
        return Err(Failed("qemu has no debug probe: its image prints".into()));
    }
    if (board, log) == (Board::Nrf52840, Log::Rtt) {
        return Err(Failed(
            "the image with a log has some 280 KiB, more than fits beside the token's data and the dongle's boot loader"
                .into(),
        ));
    }
    board.image(log).build_step().run()?;
    let path = elf(board, log);
    let image = std::fs::read(&path).map_err(|error| failed(&path, &error))?;
    let segments = elf::segments(&image)?;
    check(board, log, &image, &segments)?;
    let (file, contents) = match board {
        Board::Nrf52840 => ("hex", hex::from_segments(&segments).into_bytes()),
        Board::Pico => ("uf2", uf2::from_segments(&segments, uf2::Family::Rp2040)?),
        Board::Pico2 => (
            "uf2",
            uf2::from_segments(&segments, uf2::Family::Rp2350ArmSecure)?,
        ),
        Board::Qemu => return Ok(path),
    };
    let file = path.with_extension(file);
    std::fs::write(&file, contents).map_err(|error| failed(&file, &error))?;
    Ok(file)
}

fn check(
    board: Board,
    log: Log,
    image: &[u8],
    segments: &[elf::Segment<'_>],
) -> Result<(), Failed> {
    let board = board.feature();
    let flash = elf::flash_size(segments);
    if log == Log::None && flash > MAX_FLASH {
        return Err(Failed(format!(
            "the image for {board} has {flash} bytes, more than {MAX_FLASH}"
        )));
    }
    let statics = elf::statics_size(segments);
    if log == Log::None && statics > MAX_STATICS {
        return Err(Failed(format!(
            "the image for {board} takes {statics} bytes of RAM beside its stack, more than {MAX_STATICS}"
        )));
    }
    let mark = image.windows(LOG_MARK.len()).any(|part| part == LOG_MARK);
    if mark != (log == Log::Rtt) {
        let has = if mark { "has a" } else { "has no" };
        return Err(Failed(format!("the image for {board} {has} log")));
    }
    Ok(())
}

fn failed(file: &Path, error: &std::io::Error) -> Failed {
    Failed(format!("{}: {error}", file.display()))
}

/// Builds the image and shows its sizes.
pub(crate) fn firmware(board: Board, log: Log) -> Result<(), Failed> {
    let image = build(board, log)?;
    let shown = |path: PathBuf| std::fs::canonicalize(&path).unwrap_or(path);
    let (elf, image) = (shown(elf(board, log)), shown(image));
    println!("\n{}", elf.display());
    if image != elf {
        println!("{}", image.display());
    }
    show_sizes(&elf)
}

/// Shows what an image takes of flash and RAM, the stack's region included.
fn show_sizes(image: &Path) -> Result<(), Failed> {
    debian_packages(&[("size", "binutils"), ("nm", "binutils")])?;
    let image = image.to_string_lossy();
    program("sizes", "size", &[&image]).run()?;

    let symbols = program("symbols", "nm", &[&image]).output()?;
    let address = |name: &str| {
        let line = symbols.lines().find(|line| line.ends_with(name))?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok()
    };
    let length = |from, to| Some(address(to)?.saturating_sub(address(from)?));
    if let (Some(statics), Some(stack)) = (
        length(" __sdata", " __euninit"),
        length(" _stack_end", " _stack_start"),
    ) {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        println!(
            "RAM: statics {} KiB, stack at most {} KiB",
            kib(statics),
            kib(stack)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_too_large_or_says_too_much_is_refused() {
        let refused = |log, image: &[u8], segments: &[elf::Segment<'_>]| {
            check(Board::Pico, log, image, segments).is_err()
        };
        let logs = [b"..".as_slice(), LOG_MARK, b".."].concat();
        assert!(!refused(Log::None, b"....", &[]));
        assert!(refused(Log::None, &logs, &[]));
        assert!(!refused(Log::Rtt, &logs, &[]));
        assert!(refused(Log::Rtt, b"....", &[]));

        let (fits, large) = (vec![0; MAX_FLASH], vec![0; MAX_FLASH + 1]);
        let in_flash = |bytes| elf::Segment::new(0x1000_0000, bytes, 0x1000_0000, 1);
        assert!(!refused(Log::None, b"", &[in_flash(&fits)]));
        assert!(refused(Log::None, b"", &[in_flash(&large)]));
        let in_ram = |length| elf::Segment::new(0, &[], 0x2000_0000, length);
        assert!(!refused(Log::None, b"", &[in_ram(MAX_STATICS as u32)]));
        assert!(refused(Log::None, b"", &[in_ram(MAX_STATICS as u32 + 1)]));
    }
}
