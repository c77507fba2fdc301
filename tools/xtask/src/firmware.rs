//! `cargo xtask firmware`: builds a board's image and shows how large it is.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::setup::{ChipBuild, chip_target, debian_packages};
use crate::step::{Failed, Step, cargo, program, root};
use crate::uf2;

/// A board that there is an image for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// Raspberry Pi Pico (RP2040).
    Pico,
    /// QEMU's mps2-an386 (Cortex-M4), for tests.
    Qemu,
}

impl Board {
    /// The board's name on command lines, which is its feature as well.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::Pico => "pico",
            Self::Qemu => "qemu",
        }
    }

    fn binary(self) -> &'static str {
        match self {
            Self::Pico => "token-pico",
            Self::Qemu => "token-qemu",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Pico => "thumbv6m-none-eabi",
            Self::Qemu => "thumbv7em-none-eabihf",
        }
    }
}

/// The smaller ones of several implementations of AES and SHA-2; a user's own `RUSTFLAGS` would take their place.
pub(crate) const SMALL: &str = "['--cfg','aes_backend=\"soft\"','--cfg','aes_backend_soft=\"compact\"','--cfg',\
                     'sha2_backend=\"soft\"','--cfg','sha2_backend_soft=\"compact\"']";

/// The step that builds the image of `board`.
fn build_step(board: Board) -> Step {
    let target = board.target();
    let small = format!("target.{target}.rustflags={SMALL}");
    let step = cargo(
        format!("firmware for {}", board.feature()),
        &[
            "build",
            "--profile",
            "firmware",
            "--package",
            "hostchat-boards",
            "--features",
            board.feature(),
            "--bin",
            board.binary(),
            "--target",
            target,
            "--config",
            &small,
        ],
    );
    match chip_target(target) {
        Ok(ChipBuild::Installed) => step,
        Ok(ChipBuild::DebianSources) => step
            .args(&["-Zbuild-std=core"])
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1"),
        Err(Failed(why)) => {
            eprintln!("{target}: {why}");
            step
        }
    }
}

/// The step that lints the code of `board`, which a build for the host passes by.
pub(crate) fn lint_step(board: Board) -> Step {
    cargo(
        format!("lints of the firmware for {}", board.feature()),
        &[
            "clippy",
            // As the build: what runs on the host while building is built once for both.
            "--profile",
            "firmware",
            "--package",
            "hostchat-boards",
            "--features",
            board.feature(),
            "--bin",
            board.binary(),
            "--target",
            board.target(),
            "--",
            "-D",
            "warnings",
        ],
    )
}

/// Where [`build_step`] puts the image.
pub(crate) fn elf(board: Board) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |folder| root().join(folder));
    target
        .join(board.target())
        .join("firmware")
        .join(board.binary())
}

/// Builds the image; gives the file that the board takes.
pub(crate) fn build(board: Board) -> Result<PathBuf, Failed> {
    build_step(board).run()?;
    let elf = elf(board);
    match board {
        Board::Pico => {
            let uf2 = elf.with_extension("uf2");
            let image = std::fs::read(&elf).map_err(|error| failed(&elf, &error))?;
            std::fs::write(&uf2, uf2::from_elf(&image)?).map_err(|error| failed(&uf2, &error))?;
            Ok(uf2)
        }
        Board::Qemu => Ok(elf),
    }
}

fn failed(file: &Path, error: &std::io::Error) -> Failed {
    Failed(format!("{}: {error}", file.display()))
}

/// Builds the image and shows its sizes.
pub(crate) fn firmware(board: Board) -> Result<(), Failed> {
    let image = build(board)?;
    let shown = |path: PathBuf| std::fs::canonicalize(&path).unwrap_or(path);
    let (elf, image) = (shown(elf(board)), shown(image));
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
