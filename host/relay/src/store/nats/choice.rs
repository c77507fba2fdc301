//! Which server a node connects to next: never the one that it has just left, while there are others to try.
//!
//! The library's own choice prefers servers whose last attempt succeeded. Once the other ones had failed, as they do one after
//! the other when each host goes down for a while, a node that left the remaining one came back to it each time: it can be
//! connected to, however little it writes or delivers. Mailboxes stayed full, since their receivers were shown nothing.

use std::sync::Mutex;

use async_nats::{Server, ServerAddr};

/// What was chosen so far.
#[derive(Default)]
pub(super) struct Choice(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last one chosen, if the library did not choose.
    chosen: Option<ServerAddr>,
    /// The one that is left.
    left: Option<ServerAddr>,
    /// Of those tried since then.
    tries: usize,
}

impl Choice {
    /// Chooses from the pool; `None` leaves it to the library, which at the first connection tries all of them.
    pub(super) fn next(&self, pool: &[Server]) -> Option<ServerAddr> {
        let mut state = crate::lock(&self.0);
        let connected = match &state.chosen {
            // The count of a server is set back when somebody connects to it.
            Some(chosen) => pool
                .iter()
                .find(|server| server.addr == *chosen && server.failed_attempts == 0),
            None => Some(pool.iter().find(|server| server.did_connect)?),
        };
        if let Some(connected) = connected {
            state.left = Some(connected.addr.clone());
            state.chosen = Some(connected.addr.clone());
            state.tries = 0;
        }
        // Around the pool, whatever failed how often: a host that was down for long is up again some time.
        let last = pool
            .iter()
            .position(|server| Some(&server.addr) == state.chosen.as_ref());
        let start = last.map_or(0, |last| last + 1);
        let around = pool.iter().cycle().skip(start).take(pool.len());
        let left = state.left.clone();
        let is_left = |server: &&Server| Some(&server.addr) == left.as_ref();
        let others = pool.iter().filter(|server| !is_left(server)).count();
        let next = if state.tries < others {
            state.tries += 1;
            around.clone().find(|server| !is_left(server))
        } else {
            // None of them: then the one that was left is as good as any, once.
            state.tries = 0;
            around
                .clone()
                .find(is_left)
                .or_else(|| around.clone().next())
        };
        state.chosen = next.map(|server| server.addr.clone());
        state.chosen.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: usize) -> Vec<Server> {
        let server = |n| Server {
            addr: format!("nats://h{n}:4222").parse().unwrap(),
            failed_attempts: 0,
            did_connect: false,
            is_discovered: false,
            last_error: None,
        };
        (0..count).map(server).collect()
    }

    /// Connects as the library does with what is chosen; those that are `down` fail. Returns the one reached.
    fn connect(choice: &Choice, pool: &mut [Server], down: &[usize]) -> usize {
        for _ in 0..10 {
            let chosen = choice.next(pool).unwrap();
            let at = pool.iter().position(|s| s.addr == chosen).unwrap();
            if down.contains(&at) {
                pool[at].failed_attempts += 1;
            } else {
                pool[at].failed_attempts = 0;
                pool[at].did_connect = true;
                return at;
            }
        }
        panic!("nobody is reached: {pool:?}");
    }

    #[test]
    fn a_server_that_is_left_is_not_chosen_while_another_one_answers() {
        let choice = Choice::default();
        let mut pool = pool(3);
        assert_eq!(choice.next(&pool), None, "the first time");
        // Each of the other two was down for a while.
        pool[0].did_connect = true;
        assert_eq!(connect(&choice, &mut pool, &[0, 1]), 2);
        pool[0].failed_attempts = 40;
        pool[1].failed_attempts = 7;
        for round in 0..20 {
            let before = choice.0.lock().unwrap().chosen.clone().unwrap();
            let at = connect(&choice, &mut pool, &[]);
            assert_ne!(pool[at].addr, before, "{round}");
        }
        // Where no other one answers, it comes back to the one that it left, and goes on trying.
        for alone in [0, 1, 2, 2, 0] {
            let down: Vec<usize> = (0..3).filter(|n| *n != alone).collect();
            assert_eq!(connect(&choice, &mut pool, &down), alone);
            assert_eq!(connect(&choice, &mut pool, &down), alone);
        }
    }

    #[test]
    fn one_server_is_chosen_again() {
        let choice = Choice::default();
        let mut pool = pool(1);
        pool[0].did_connect = true;
        for _ in 0..3 {
            assert_eq!(connect(&choice, &mut pool, &[]), 0);
        }
    }
}
