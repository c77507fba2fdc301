//! A step: a program that is started, shown by name, timed, and must succeed.

use std::process::Command;
use std::time::Instant;

/// What did not work, in words.
pub(crate) struct Failed(pub(crate) String);

/// One program to start, or one check of our own.
pub(crate) struct Step {
    pub(crate) name: String,
    command: Command,
    own: Option<fn() -> Result<(), Failed>>,
}

/// The cargo that started us, from the root of the workspace.
pub(crate) fn cargo(name: impl Into<String>, arguments: &[&str]) -> Step {
    program(
        name,
        &std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()),
        arguments,
    )
}

/// Any other program.
pub(crate) fn program(name: impl Into<String>, program: &str, arguments: &[&str]) -> Step {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    Step {
        name: name.into(),
        command,
        own: None,
    }
}

/// The root of the workspace.
pub(crate) fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Step {
    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in `folder`, not in the root of the workspace.
    pub(crate) fn at(mut self, folder: &std::path::Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs `own` in place of a program.
    pub(crate) fn with(mut self, own: fn() -> Result<(), Failed>) -> Self {
        self.own = Some(own);
        self
    }

    /// Runs the step and shows how long it took.
    pub(crate) fn run(mut self) -> Result<(), Failed> {
        println!("── {}", self.name);
        let started = Instant::now();
        match self.own {
            Some(own) => own()?,
            None => {
                let status = self.command.status().map_err(|error| {
                    Failed(format!(
                        "{}: cannot start {:?}: {error}",
                        self.name, self.command
                    ))
                })?;
                if !status.success() {
                    return Err(Failed(format!(
                        "{} ({status}): {:?}",
                        self.name, self.command
                    )));
                }
            }
        }
        println!("── {}: ok, {} s", self.name, started.elapsed().as_secs());
        Ok(())
    }

    /// What the program prints, for checks that read it.
    pub(crate) fn output(mut self) -> Result<String, Failed> {
        let output = self.command.output().map_err(|error| {
            Failed(format!(
                "{}: cannot start {:?}: {error}",
                self.name, self.command
            ))
        })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Failed(format!(
                "{} ({}): {errors}",
                self.name, output.status
            )))
        }
    }
}
