//! Places at which a test may kill the program.
//!
//! Only a build with the feature `crash-points` has them: there the environment variable `HOSTCHAT_CRASH_AT` names a
//! point, with `HOSTCHAT_CRASH_AFTER=n` it is passed n times first. With the feature `simulation` a test can also ask for
//! a crash of this thread's client alone (`simulated`). In any other build [`point`] is empty.

/// Every point, in the order of the work it cuts.
pub const POINTS: &[&str] = &[
    // seal: outbox, token, relay
    "outbox-stored",
    "token-sealed",
    "frame-stored",
    "relay-stored",
    "sent-marked",
    // open: token, vault, commit, acknowledgement
    "delivered",
    "token-opened",
    "plaintext-stored",
    "token-committed",
    "commit-marked",
    "acknowledged",
    // show
    "showing-marked",
    "printed",
    "shown-marked",
    // pairing and first messages
    "code-drawn",
    "offer-sent",
    "request-stored",
    "code-answered",
    "answer-stored",
    "answer-sent",
    "pair-confirmed",
    "contact-stored",
    "session-started",
    "prekey-made",
    "prekey-stored",
    // generation and healing
    "generation-noted",
    "generation-planned",
    "generation-asked",
    "generation-adopted",
    "surprise-noted",
    "prekeys-dropped",
    "sessions-superseded",
    "unopened-stored",
    // a vault of an older format
    "vault-migrated",
    // init
    "config-stored",
    "token-initialised",
    "registered",
];

/// Dies here, without any clean-up, if the test wants it.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static PASSED: AtomicUsize = AtomicUsize::new(0);
    debug_assert!(POINTS.contains(&name), "{name} is not in the list");
    #[cfg(feature = "simulation")]
    simulated::point(name);
    if std::env::var("HOSTCHAT_CRASH_AT").is_ok_and(|wanted| wanted == name) {
        let after = std::env::var("HOSTCHAT_CRASH_AFTER")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        if PASSED.fetch_add(1, Ordering::SeqCst) >= after {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

/// Does nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Crashes of one client among others in a process: the thread unwinds from the point to whoever asked for it.
///
/// What the client had in memory is dropped; what it had written stays. No panic is reported, since there is none.
#[cfg(feature = "simulation")]
pub mod simulated {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// Decides at each point whether the client ends there.
    pub type Decide = Box<dyn FnMut(&str) -> bool>;

    thread_local! {
        static DECIDE: RefCell<Option<Decide>> = const { RefCell::new(None) };
    }

    /// What unwinds; private, so that nothing else is taken for a crash.
    struct Crash(String);

    /// Runs `work`; `decide` is asked at each crash point that this thread passes. Gives the point at which it crashed, if
    /// it did. Any other panic goes on.
    ///
    /// # Errors
    /// The point's name.
    pub fn run<T>(decide: Decide, work: impl FnOnce() -> T) -> Result<T, String> {
        let before = DECIDE.replace(Some(decide));
        let result = catch_unwind(AssertUnwindSafe(work));
        DECIDE.replace(before);
        result.map_err(|payload| match payload.downcast::<Crash>() {
            Ok(crash) => crash.0,
            Err(other) => resume_unwind(other),
        })
    }

    pub(super) fn point(name: &str) {
        // What is dropped while the thread unwinds may pass points too.
        if std::thread::panicking() {
            return;
        }
        let crash =
            DECIDE.with_borrow_mut(|decide| decide.as_mut().is_some_and(|decide| decide(name)));
        if crash {
            resume_unwind(Box::new(Crash(name.to_owned())));
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_crash_ends_the_work_at_its_point_and_nothing_else_is_caught() {
            let work = || {
                super::super::point("token-sealed");
                super::super::point("frame-stored");
                7
            };
            let at = |name: &'static str| Box::new(move |point: &str| point == name);
            assert_eq!(run(at("frame-stored"), work), Err("frame-stored".into()));
            assert_eq!(run(at("printed"), work), Ok(7));
            assert_eq!(work(), 7, "without anybody who decides nothing happens");
            let other = catch_unwind(|| run(at("printed"), || resume_unwind(Box::new(5_u8))));
            assert!(other.is_err_and(|payload| payload.is::<u8>()));
        }
    }
}
