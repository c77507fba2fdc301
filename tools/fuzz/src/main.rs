//! What a fuzzer needs besides a target: its seeds as files, and a found case run again without nightly.
//!
//! ```text
//! hostchat-fuzz seeds FOLDER      writes FOLDER/TARGET/NAME
//! hostchat-fuzz run TARGET FILE   runs one case
//! hostchat-fuzz list              names the targets
//! ```

use std::path::Path;
use std::process::ExitCode;

use hostchat_fuzz::{TARGETS, seeds};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["list"] => {
            TARGETS
                .iter()
                .for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["seeds", folder] => write_seeds(Path::new(folder)),
        ["run", target, file] => match TARGETS.iter().find(|known| known.name == *target) {
            Some(target) => std::fs::read(file).map(|bytes| (target.body)(&bytes)),
            None => Err(std::io::Error::other("no such target; see: list")),
        },
        _ => Err(std::io::Error::other(
            "list, seeds FOLDER, or run TARGET FILE",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write_seeds(folder: &Path) -> std::io::Result<()> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds::of(target.name) {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
