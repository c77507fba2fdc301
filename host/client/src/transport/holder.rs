//! Which other program has a port open, through `/proc`; only those of processes that we may look at.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Holder;

/// The program that has locked `port`, otherwise one that has it open.
pub(super) fn holder(port: &Path) -> Option<Holder> {
    let mut open = others(port);
    let at = open.iter().position(|other| other.locks).unwrap_or(0);
    (!open.is_empty()).then(|| open.swap_remove(at).named())
}

/// A process that has the port open.
struct Other {
    pid: u32,
    process: PathBuf,
    locks: bool,
}

impl Other {
    fn named(self) -> Holder {
        let name = fs::read_to_string(self.process.join("comm")).unwrap_or_default();
        Holder {
            pid: self.pid,
            program: crate::escape::escape(name.trim_end()).into_owned(),
        }
    }
}

/// All processes but this one that have `port` open.
///
/// A simulated token holds both ends of a pseudo-terminal open; it is not meant.
fn others(port: &Path) -> Vec<Other> {
    let (Ok(device), Ok(processes)) = (fs::canonicalize(port), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let own = std::process::id();
    let ids = processes.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        (pid != own).then(|| (pid, entry.path()))
    });
    ids.filter_map(|(pid, process)| {
        let open = descriptors(&process);
        let here: Vec<&(PathBuf, PathBuf)> = open.iter().filter(|(_, to)| *to == device).collect();
        if here.is_empty() || open.iter().any(|(fd, to)| is_other_end(fd, to, &device)) {
            return None;
        }
        let locks = here
            .iter()
            .any(|(fd, _)| info(fd).is_some_and(|text| text.contains("FLOCK")));
        Some(Other {
            pid,
            process,
            locks,
        })
    })
    .collect()
}

/// The open files of a process: their entries in `fd`, and what they lead to.
fn descriptors(process: &Path) -> Vec<(PathBuf, PathBuf)> {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        return Vec::new();
    };
    open.flatten()
        .filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?)))
        .collect()
}

/// What the kernel says about an open file.
fn info(fd: &Path) -> Option<String> {
    let process = fd.parent()?.parent()?;
    fs::read_to_string(process.join("fdinfo").join(fd.file_name()?)).ok()
}

/// Whether an open file is the controlling end of the pseudo-terminal `device`.
fn is_other_end(fd: &Path, to: &Path, device: &Path) -> bool {
    let number = device
        .strip_prefix("/dev/pts")
        .ok()
        .and_then(|n| n.to_str());
    let Some(number) = number.filter(|_| to.ends_with("ptmx")) else {
        return false;
    };
    info(fd).is_some_and(|text| {
        text.lines()
            .filter_map(|line| line.strip_prefix("tty-index:"))
            .any(|index| index.trim() == number)
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

    use super::*;

    /// A program that has `port` open until it is dropped.
    struct Program(Child);

    impl Program {
        fn with(port: &Path) -> Self {
            let file = fs::File::open(port).unwrap();
            let child = Command::new("sleep")
                .arg("600")
                .stdin(Stdio::from(file))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            Self(child)
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_program_that_has_a_port_open_without_a_lock_is_named() {
        // The program must not get the other end as well.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let port = PathBuf::from(name.into_string().unwrap());
        assert_eq!(holder(&port), None);
        let program = Program::with(&port);
        let pid = program.0.id();
        // It is called as this test until it has become the program.
        let found = holder(&port).unwrap();
        assert_eq!(found.pid, pid);
        drop(program);
        assert_eq!(holder(&port), None);
    }
}
