//! `hostchat-relay check`: whether the store holds together.

use clap::Args;

use super::Folder;
use crate::config::Config;
use crate::error::Error;
use crate::store::StoreError;
use crate::store::check::{Report, check};

/// Check the store: the file, what its rows refer to, its counters and sums; works while the relay runs.
#[derive(Args)]
#[command(after_help = "\
Example:
  hostchat-relay check --dir r

It changes nothing. Exit code 0 if the store is good, 5 if not; what is wrong is listed, one line each.")]
pub(super) struct Check {
    #[command(flatten)]
    folder: Folder,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Error> {
        let path = Config::load(&self.folder.dir)?.database;
        let wrong = |source| Error::Store {
            path: path.clone(),
            source,
        };
        let report = check(&path).map_err(wrong)?;
        for problem in &report.problems {
            println!("wrong: {problem:?}");
        }
        match report.problems.len() {
            0 => {
                println!("good: {}", describe(&report));
                if report.in_use {
                    println!(
                        "a relay runs on it, or did not end in order and will recover at its next start"
                    );
                }
                Ok(())
            }
            1 => Err(wrong(StoreError::Damaged("one thing is wrong".to_owned()))),
            n => Err(wrong(StoreError::Damaged(format!("{n} things are wrong")))),
        }
    }
}

/// A report in one line.
pub(super) fn describe(report: &Report) -> String {
    let Report {
        format,
        accounts,
        mailboxes,
        messages,
        bytes,
        prekeys,
        log,
        ..
    } = report;
    format!(
        "format {format}, accounts {accounts}, prekeys {prekeys}, messages {messages} ({bytes} bytes) in {mailboxes} mailboxes, log entries {log}"
    )
}
