//! What the relay did during the last day, in memory: one sample a minute, for the charts of the admin page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::limits::{HISTORY_MS, HISTORY_SAMPLES};
use crate::server::Relay;

/// The state at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Uptime of the clock.
    pub(crate) uptime_ms: u64,
    /// Messages stored since the start.
    pub(crate) stored: u64,
    /// Messages delivered since the start.
    pub(crate) delivered: u64,
    /// Size of the database.
    pub(crate) database_bytes: u64,
}

/// The samples, oldest first.
#[derive(Default)]
pub(crate) struct History(Mutex<VecDeque<Sample>>);

impl History {
    fn push(&self, sample: Sample) {
        let mut samples = crate::lock(&self.0);
        if samples.len() >= HISTORY_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// All of them, and the state now.
    pub(crate) fn until_now(&self, relay: &Relay) -> Vec<Sample> {
        let mut samples: Vec<Sample> = crate::lock(&self.0).iter().copied().collect();
        samples.push(sample(relay));
        samples
    }
}

fn sample(relay: &Relay) -> Sample {
    Sample {
        uptime_ms: relay.clock.uptime_ms(),
        stored: relay.metrics.stored.get(),
        delivered: relay.metrics.delivered.get(),
        database_bytes: relay.store.state().bytes.unwrap_or(0),
    }
}

/// Takes samples until it is aborted.
pub(crate) async fn watch(relay: Arc<Relay>) {
    loop {
        relay.history.push(sample(&relay));
        let next = relay.clock.uptime_ms() + HISTORY_MS;
        relay.clock.sleep_until(next).await;
    }
}
