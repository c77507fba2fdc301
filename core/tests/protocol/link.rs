//! A seeded link in virtual time that loses, delays, reorders, repeats and damages.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng as _;

/// Milliseconds of virtual time.
pub(crate) type Time = u64;

/// A number below `bound`, uniform enough for a schedule.
pub(crate) fn below(rng: &mut ChaCha20Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// How bad a link is, each in percent of the frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) damaged: u64,
    /// The longest delay; frames overtake each other within it.
    pub(crate) delay: Time,
}

/// What arrives: the bytes, and the number of the frame they were sent as, unless they were damaged on the way.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) bytes: Vec<u8>,
    pub(crate) number: Option<usize>,
}

/// One direction of a link.
pub(crate) struct Link {
    weather: Weather,
    /// Arrival time, an order among equals, and what arrives.
    on_the_way: Vec<(Time, u64, Arrival)>,
    next: u64,
}

impl Link {
    pub(crate) fn new(weather: Weather) -> Self {
        Self {
            weather,
            on_the_way: Vec::new(),
            next: 0,
        }
    }

    /// Sends one frame at a time.
    pub(crate) fn send(&mut self, now: Time, number: usize, bytes: &[u8], rng: &mut ChaCha20Rng) {
        let weather = self.weather;
        if below(rng, 100) >= weather.lost {
            self.put(
                now,
                Arrival {
                    bytes: bytes.to_vec(),
                    number: Some(number),
                },
                rng,
            );
        }
        while below(rng, 100) < weather.repeated {
            self.put(
                now,
                Arrival {
                    bytes: bytes.to_vec(),
                    number: Some(number),
                },
                rng,
            );
        }
        if below(rng, 100) < weather.damaged {
            let damaged = Arrival {
                bytes: damage(bytes, rng),
                number: None,
            };
            self.put(now, damaged, rng);
        }
    }

    /// Gives what has arrived by now, in the order of arrival.
    pub(crate) fn receive(&mut self, now: Time) -> Option<Arrival> {
        let first = (0..self.on_the_way.len())
            .min_by_key(|&i| (self.on_the_way[i].0, self.on_the_way[i].1))?;
        (self.on_the_way[first].0 <= now).then(|| self.on_the_way.swap_remove(first).2)
    }

    /// The time of the next arrival.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        self.on_the_way.iter().map(|(time, ..)| *time).min()
    }

    fn put(&mut self, now: Time, arrival: Arrival, rng: &mut ChaCha20Rng) {
        let at = now + below(rng, self.weather.delay.max(1));
        self.next += 1;
        self.on_the_way.push((at, self.next, arrival));
    }
}

/// Flips bits, cuts off or appends.
fn damage(bytes: &[u8], rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    match below(rng, 4) {
        0 => damaged.truncate(usize::try_from(below(rng, bytes.len() as u64)).unwrap()),
        1 => damaged.push(0),
        _ => {
            for _ in 0..=below(rng, 3) {
                let at = usize::try_from(below(rng, bytes.len() as u64)).unwrap();
                damaged[at] ^= 1 << below(rng, 8);
            }
        }
    }
    damaged
}
