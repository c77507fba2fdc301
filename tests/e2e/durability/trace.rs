//! The order of writes, syncs and sends of a program, as strace saw it.
//!
//! Invariant checked: between a write to a file and the next byte that leaves by a socket there is a sync of that file,
//! begun after the write and ended before the send.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a system call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// Wrote these bytes to a file.
    Write(Vec<u8>),
    /// Synced a file.
    Sync,
    /// Sent these bytes by a network socket.
    Send(Vec<u8>),
}

impl Did {
    pub(super) fn is_send(&self) -> bool {
        matches!(self, Self::Send(_))
    }
}

/// One system call, with the lines of the trace at which it began and ended.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) did: Did,
    pub(super) file: String,
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// A program under strace: the program is the child of the test, strace is beside it.
pub(super) fn under_strace(command: &Command, output: &Path) -> Command {
    let mut traced = strace(output);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced.stdin(std::process::Stdio::null());
    traced
}

/// `strace` that still needs the program and its arguments.
///
/// # Panics
/// If it is not there, or may not trace.
pub(super) fn strace(output: &Path) -> Command {
    let probe = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    let works = probe.as_ref().is_ok_and(|probe| probe.status.success());
    assert!(
        works,
        "this test needs strace, and the right to trace its own child processes (ptrace); `strace true` gave: {probe:?}"
    );
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-yy", "-xx", "-s", "131072"])
        .args(["-e", "trace=pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fsync,fdatasync,msync,sync_file_range"])
        .arg("-o")
        .arg(output);
    command
}

/// The trace that a program has left which has ended.
pub(super) fn read(path: &PathBuf) -> Vec<Step> {
    parse(&std::fs::read_to_string(path).expect("a trace"))
}

fn parse(text: &str) -> Vec<Step> {
    let mut open: Vec<(&str, Step)> = Vec::new();
    let mut steps = Vec::new();
    for (line_number, line) in text.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(place) = open.iter().position(|(of, _)| *of == pid) {
                let (_, mut step) = open.swap_remove(place);
                step.end = line_number;
                if succeeded(rest) {
                    steps.push(step);
                }
            }
            continue;
        }
        let Some(step) = parse_call(rest, line_number) else {
            continue;
        };
        if rest.ends_with("<unfinished ...>") {
            open.push((pid, step));
        } else if succeeded(rest) {
            steps.push(step);
        }
    }
    // What had not ended when the program did has begun all the same.
    steps.extend(open.into_iter().map(|(_, step)| Step {
        end: usize::MAX,
        ..step
    }));
    steps.sort_by_key(|step| step.begin);
    steps
}

fn succeeded(line: &str) -> bool {
    line.rsplit_once(" = ")
        .is_some_and(|(_, result)| !result.starts_with('-') && !result.starts_with('?'))
}

fn parse_call(line: &str, number: usize) -> Option<Step> {
    let (name, arguments) = line.split_once('(')?;
    let (_, described) = arguments.split_once('<')?;
    let end = [">, ", ">)", "> <unfinished"]
        .iter()
        .filter_map(|mark| described.find(mark))
        .min()?;
    let file = String::from_utf8_lossy(&unescape(&described[..end])).into_owned();
    let is_socket = file.starts_with("TCP") || file.starts_with("socket:");
    let did = match name {
        "fsync" | "fdatasync" => Did::Sync,
        "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" | "sendto" | "sendmsg" => {
            let data = described[end..].split('"').skip(1).step_by(2);
            let bytes = data.flat_map(unescape).collect();
            if is_socket {
                Did::Send(bytes)
            } else {
                Did::Write(bytes)
            }
        }
        // A file that is written in other ways would not be seen: none of ours is.
        _ => return None,
    };
    Some(Step {
        did,
        file,
        begin: number,
        end: number,
    })
}

/// Bytes of a string in strace's form: `\x41` for a byte, or the byte itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after
            .get(1..3)
            .filter(|_| first == b'\\' && after.first() == Some(&b'x'))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Whether `file` was synced, from the step `write` on, before something leaves at `send`.
fn is_synced(steps: &[Step], file: &str, write: &Step, send: &Step) -> bool {
    steps.iter().any(|step| {
        step.did == Did::Sync
            && step.file == file
            && step.begin > write.end
            && step.end < send.begin
    })
}

/// Whether `record` is somewhere in `bytes`.
pub(super) fn holds(bytes: &[u8], record: &[u8]) -> bool {
    record.is_empty() || bytes.windows(record.len()).any(|part| part == record)
}

/// Sends before which a file whose name ends with one of `suffixes` was written and not synced.
pub(super) fn leaks(steps: &[Step], suffixes: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, send) in steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.did.is_send())
    {
        for suffix in suffixes {
            let written = steps[..place]
                .iter()
                .rfind(|step| matches!(step.did, Did::Write(_)) && step.file.ends_with(suffix));
            if let Some(write) = written.filter(|write| !is_synced(steps, &write.file, write, send))
            {
                let (line, at) = (send.begin + 1, write.begin + 1);
                found.push(format!(
                    "line {line}: sent, but {} of line {at} is not synced",
                    write.file
                ));
            }
        }
    }
    found
}

/// Whether `record` was written to a file that ends with `suffix`, and synced before anything with `answer` in it left;
/// `None` if it was never written or no such thing left after it.
pub(super) fn is_durable_first(
    steps: &[Step],
    suffix: &str,
    record: &[u8],
    answer: &[u8],
) -> Option<bool> {
    let holds_it = |step: &Step| match &step.did {
        Did::Write(bytes) => step.file.ends_with(suffix) && holds(bytes, record),
        _ => false,
    };
    let answers = |step: &&Step| match &step.did {
        Did::Send(bytes) => holds(bytes, answer),
        _ => false,
    };
    let place = steps.iter().position(holds_it)?;
    let send = steps[place..].iter().find(answers)?;
    Some(is_synced(steps, &steps[place].file, &steps[place], send))
}

/// What happened to two files between one send and the next: `a` and `b` for writes, `A` and `B` for syncs, repeats left
/// out.
pub(super) fn shape(steps: &[Step], a: &str, b: &str) -> Vec<String> {
    let mut shapes = vec![String::new()];
    for step in steps {
        let letter = match (&step.did, step.file.ends_with(a), step.file.ends_with(b)) {
            (Did::Send(_), ..) => {
                shapes.push(String::new());
                continue;
            }
            (Did::Write(_), true, _) => 'a',
            (Did::Write(_), _, true) => 'b',
            (Did::Sync, true, _) => 'A',
            (Did::Sync, _, true) => 'B',
            _ => continue,
        };
        if let Some(shape) = shapes.last_mut().filter(|shape| !shape.ends_with(letter)) {
            shape.push(letter);
        }
    }
    shapes
}

#[test]
fn the_checker_sees_a_sync_that_is_missing_early_late_or_of_another_file() {
    let trace = |middle: &str| {
        parse(&format!(
            "7 pwrite64(3</a/x-wal>, \"\\x41\\x42\", 2, 0) = 2\n{middle}\n7 writev(9<TCP:[1:1->2:2]>, [{{iov_base=\"\\x00\"}}], 1) = 1\n"
        ))
    };
    let good = trace("7 fdatasync(3</a/x-wal>) = 0");
    assert!(leaks(&good, &["-wal"]).is_empty());
    assert_eq!(is_durable_first(&good, "-wal", b"AB", b""), Some(true));
    assert_eq!(is_durable_first(&good, "-wal", b"BA", b""), None);
    assert_eq!(is_durable_first(&good, "-wal", b"AB", b"\0"), Some(true));
    assert_eq!(is_durable_first(&good, "-wal", b"AB", b"\x01"), None);
    assert_eq!(shape(&good, "-wal", ".flash"), ["aA", ""]);
    let overlapping = "8 fsync(3</a/x-wal> <unfinished ...>\n7 write(5</b>, \"\", 0) = 0\n8 <... fsync resumed>) = 0";
    assert!(leaks(&trace(overlapping), &["-wal"]).is_empty());
    for bad in [
        "",
        "7 fdatasync(3</a/y-wal>) = 0",
        "7 fdatasync(3</a/x-wal>) = -1 EIO (Input/output error)",
        "7 fdatasync(3</a/x-wal>) = 0\n7 pwrite64(3</a/x-wal>, \"\\x41\\x42\", 2, 0) = 2",
        "8 fsync(3</a/x-wal> <unfinished ...>",
    ] {
        assert_eq!(leaks(&trace(bad), &["-wal"]).len(), 1, "{bad}");
    }
    let early = parse(
        "8 fsync(3</a/x-wal> <unfinished ...>\n7 pwrite64(3</a/x-wal>, \"\\x41\", 1, 0) = 1\n8 <... fsync resumed>) = 0\n\
         7 sendto(9<socket:[5]>, \"\", 0, 0, NULL, 0) = 0\n",
    );
    assert_eq!(leaks(&early, &["-wal"]).len(), 1);
}
