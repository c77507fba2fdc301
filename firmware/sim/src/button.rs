//! The button of a token without one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hostchat_core::icd::TOUCH_TIMEOUT_MS;
use hostchat_token::Touch;
use hostchat_token::host::TouchSource;

/// How often a wait looks at the button.
const SAMPLE: Duration = Duration::from_millis(5);

/// Who presses.
pub(crate) enum Finger {
    Itself,
    Nobody,
    File(PathBuf),
}

/// The button and what the two threads tell each other about it.
pub(crate) struct Button {
    finger: Arc<Finger>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    waiting: AtomicBool,
    cancelled: AtomicBool,
}

impl Button {
    pub(crate) fn new(finger: Finger) -> Self {
        Self {
            finger: Arc::new(finger),
            state: Arc::default(),
        }
    }

    /// What the application asks when it needs a press.
    pub(crate) fn source(&self) -> TouchSource {
        let (finger, state) = (Arc::clone(&self.finger), Arc::clone(&self.state));
        Box::new(move |_reason| {
            // A file that is there already is a button held since before: it does not count. It is gone before a
            // keepalive says that a press is waited for, so that whoever presses then is heard.
            if let Finger::File(path) = &*finger {
                let _ = std::fs::remove_file(path);
            }
            state.waiting.store(true, Ordering::SeqCst);
            let touch = wait(&finger, &state.cancelled);
            state.waiting.store(false, Ordering::SeqCst);
            touch
        })
    }

    /// Whether the application waits for a press now.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.state.waiting.load(Ordering::SeqCst)
    }

    /// Gives up the wait of the request under way.
    pub(crate) fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::SeqCst);
    }

    /// A new request begins: earlier cancels do not concern it.
    pub(crate) fn begin(&self) {
        self.state.cancelled.store(false, Ordering::SeqCst);
    }
}

fn wait(finger: &Finger, cancelled: &AtomicBool) -> Touch {
    let deadline = Instant::now() + Duration::from_millis(TOUCH_TIMEOUT_MS);
    while Instant::now() < deadline {
        if cancelled.load(Ordering::SeqCst) {
            return Touch::Cancelled;
        }
        match finger {
            Finger::Itself => return Touch::Pressed,
            Finger::File(path) if std::fs::remove_file(path).is_ok() => return Touch::Pressed,
            Finger::Nobody | Finger::File(_) => std::thread::sleep(SAMPLE),
        }
    }
    Touch::TimedOut
}
