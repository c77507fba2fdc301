//! Places at which a test may kill the program (design §6).
//!
//! Only a build with the feature `crash-points` has them: there the environment variable `HOSTCHAT_CRASH_AT` names a
//! point, with `HOSTCHAT_CRASH_AFTER=n` it is passed n times first. In any other build [`point`] is empty.

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
