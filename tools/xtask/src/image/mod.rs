//! Images for chips: how they are built and linted, and the files that boot loaders take.

pub(crate) mod elf;
pub(crate) mod hex;
pub(crate) mod uf2;

use std::path::PathBuf;

use crate::setup::{ChipBuild, chip_target};
use crate::step::{Failed, Step, cargo, root};

/// The smaller ones of several implementations of AES and SHA-2; a user's own `RUSTFLAGS` would take their place.
const SMALL: &str = "['--cfg','aes_backend=\"soft\"','--cfg','aes_backend_soft=\"compact\"','--cfg',\
                     'sha2_backend=\"soft\"','--cfg','sha2_backend_soft=\"compact\"']";

/// A program for a chip.
pub(crate) struct Image {
    /// What the steps call it.
    pub(crate) name: String,
    pub(crate) package: &'static str,
    pub(crate) features: String,
    pub(crate) binary: &'static str,
    pub(crate) target: &'static str,
    /// Also the folder below the target's that the image is put into.
    pub(crate) profile: &'static str,
    /// Libraries to build where the target's are not installed.
    pub(crate) libraries: &'static str,
}

impl Image {
    /// The step that builds it.
    pub(crate) fn build_step(&self) -> Step {
        let small = format!("target.{}.rustflags={SMALL}", self.target);
        let step = self.cargo(&self.name, "build").args(&["--config", &small]);
        for_chip(step, self.target, self.libraries)
    }

    /// The step that lints its code, which a build for the host passes by.
    pub(crate) fn lint_step(&self) -> Step {
        self.cargo(&format!("lints of the {}", self.name), "clippy")
            .args(&["--", "-D", "warnings"])
    }

    /// Where [`Self::build_step`] puts it.
    pub(crate) fn path(&self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), |folder| root().join(folder));
        target
            .join(self.target)
            .join(self.profile)
            .join(self.binary)
    }

    /// Lints and builds have the same profile: what runs on the host while building is built once for both.
    fn cargo(&self, name: &str, command: &str) -> Step {
        cargo(
            name,
            &[
                command,
                "--profile",
                self.profile,
                "--package",
                self.package,
                "--features",
                &self.features,
                "--bin",
                self.binary,
                "--target",
                self.target,
            ],
        )
    }
}

/// Lets a build step for a chip find or build the libraries that every program needs.
pub(crate) fn for_chip(step: Step, target: &str, libraries: &str) -> Step {
    match chip_target(target) {
        Ok(ChipBuild::Installed) => step,
        Ok(ChipBuild::DebianSources) => step
            .args(&[&format!("-Zbuild-std={libraries}")])
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1"),
        Err(Failed(why)) => {
            eprintln!("{target}: {why}");
            step
        }
    }
}
