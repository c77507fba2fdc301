//! Child processes with their output collected line by line, so that a test waits for a condition, never for a time.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a wait for a condition may last before the test fails: far above what any step needs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The program `name` of this workspace, beside the test that runs.
///
/// # Panics
/// If it was not built: `cargo xtask test` builds it, as does `cargo build --workspace --bins`.
pub fn program(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("the path of this program");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace --bins` first",
        path.display()
    );
    path
}

#[derive(Default)]
struct Lines {
    lines: Mutex<(Vec<String>, usize)>,
    changed: Condvar,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, (Vec<String>, usize)> {
        self.lines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn collect(self: &Arc<Self>, source: impl Read + Send + 'static) {
        let lines = Arc::clone(self);
        lines.lock().1 += 1;
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                lines.lock().0.push(line);
                lines.changed.notify_all();
            }
            lines.lock().1 -= 1;
            lines.changed.notify_all();
        });
    }
}

/// A program that runs beside the test; killed when dropped.
pub struct Running {
    name: String,
    child: Child,
    out: Arc<Lines>,
    err: Arc<Lines>,
}

/// How a program ended, with everything it printed.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// The exit code; 128 + n for a death by signal n, as shells count.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Itself, if the program succeeded.
    ///
    /// # Panics
    /// With everything that was printed, if it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Itself, if the program ended with `code` and said `words` on standard error.
    ///
    /// # Panics
    /// With everything that was printed, otherwise.
    #[track_caller]
    pub fn refused(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code(), code, "{self}");
        assert!(self.err.contains(words), "{words:?} is not in:\n{self}");
        self
    }

    /// Standard output as JSON values, one per line.
    ///
    /// # Panics
    /// If a line is not JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n-- out\n{}\n-- err\n{}",
            self.status, self.out, self.err
        )
    }
}

impl Running {
    /// Starts `command` with nothing on standard input unless it says otherwise.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("program starts");
        let (out, err) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        out.collect(child.stdout.take().expect("piped"));
        err.collect(child.stderr.take().expect("piped"));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let name = words
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        Self {
            name,
            child,
            out,
            err,
        }
    }

    /// As [`Running::start`], with a pipe as standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with_pipe(command: &mut Command) -> (Self, std::process::ChildStdin) {
        let mut running = Self::start(command.stdin(Stdio::piped()));
        let input = running.child.stdin.take().expect("piped");
        (running, input)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output for which `find` gives something.
    ///
    /// # Panics
    /// If the program ends, or [`PATIENCE`] passes, without it.
    #[track_caller]
    pub fn wait_out<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait(&self.out, what, find)
    }

    /// As [`Running::wait_out`], on standard error.
    ///
    /// # Panics
    /// If the program ends, or [`PATIENCE`] passes, without it.
    #[track_caller]
    pub fn wait_err<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait(&self.err, what, find)
    }

    #[track_caller]
    fn wait<T>(&self, lines: &Lines, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut held = lines.lock();
        loop {
            for line in held.0.iter().skip(seen) {
                if let Some(found) = find(line) {
                    return found;
                }
            }
            seen = held.0.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || held.1 == 0 {
                drop(held);
                let (out, err) = (self.out.lock().0.join("\n"), self.err.lock().0.join("\n"));
                panic!(
                    "{}: waited for {what}\n-- out\n{out}\n-- err\n{err}",
                    self.name
                );
            }
            held = lines
                .changed
                .wait_timeout(held, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Lines of standard output so far.
    pub fn out_lines(&self) -> Vec<String> {
        self.out.lock().0.clone()
    }

    /// Sends a signal; a process that is gone already is fine.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(mut self) -> Ended {
        let _ = self.child.kill();
        self.end()
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        for lines in [&self.out, &self.err] {
            let mut held = lines.lock();
            while held.1 > 0 {
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(
                    !left.is_zero(),
                    "{} does not end; it said:\n{}",
                    self.name,
                    held.0.join("\n")
                );
                held = lines
                    .changed
                    .wait_timeout(held, left)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .0;
            }
        }
        let status = self.child.wait().expect("a child of ours");
        let text = |lines: &Lines| {
            lines
                .lock()
                .0
                .iter()
                .map(|line| format!("{line}\n"))
                .collect()
        };
        Ended {
            status,
            out: text(&self.out),
            err: text(&self.err),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
