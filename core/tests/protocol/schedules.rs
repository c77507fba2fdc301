//! Whole conversations over a bad link: each content at most once, never a wrong one, and whatever arrives opens.

use hostchat_core::error::Error;
use hostchat_core::handshake::pair::Pending;
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{Envelope, codec};
use rand_chacha::ChaCha20Rng;

use crate::link::{Arrival, Link, Time, Weather, below};
use crate::support::{End, Run, alice_and_bob, begun, code, rng, run};

/// How many schedules run, unless `HOSTCHAT_SCHEDULES` says otherwise.
const SCHEDULES: u64 = 10_000;

/// Where a schedule begins: stored states, so that not every schedule needs a handshake.
struct Beginning {
    a: Vec<u8>,
    /// Bob's session, or nothing while his pairing is pending.
    b: Vec<u8>,
    pending: Option<Pending>,
}

impl Beginning {
    /// Both have a session, from a first message.
    fn both(with_one_time: bool) -> Self {
        let (a, b) = begun(80, with_one_time);
        Self {
            a: a.stored(),
            b: b.stored(),
            pending: None,
        }
    }

    /// Alice has confirmed a pairing, and Bob waits for message 3.
    fn pending() -> Self {
        let (mut a, mut b) = alice_and_bob(80);
        let Run {
            initiator,
            pending,
            answer,
            ..
        } = run(&mut a, &mut b, &code());
        let mut end = End::new(a.rng);
        initiator
            .confirm(&a.keys, &answer, &mut end.session, &mut end.rng)
            .unwrap();
        Self {
            a: end.stored(),
            b: Vec::new(),
            pending: Some(pending),
        }
    }
}

/// One side of a conversation.
struct Side<'p> {
    end: End,
    pending: Option<&'p Pending>,
    sent: Vec<Vec<u8>>,
    /// For each frame of the other side: how often it was shown.
    shown: Vec<u32>,
    link: Link,
}

impl<'p> Side<'p> {
    fn new(stored: &[u8], pending: Option<&'p Pending>, seed: u64, weather: Weather) -> Self {
        let mut end = End::new(rng(seed));
        if !stored.is_empty() {
            end.session.load(stored).unwrap();
        }
        Self {
            end,
            pending,
            sent: Vec::new(),
            shown: Vec::new(),
            link: Link::new(weather),
        }
    }

    /// Seals a content that nobody else seals, and sends it.
    fn speak(&mut self, name: u8, now: Time, other: &mut Self, rng: &mut ChaCha20Rng) {
        if self.end.session.is_empty() {
            return;
        }
        let mut content = vec![name];
        content.extend_from_slice(&self.sent.len().to_le_bytes());
        content.resize(9 + usize::try_from(below(rng, 200)).unwrap(), name);
        let envelope = self.end.seal(&content);
        self.link.send(now, self.sent.len(), &envelope, rng);
        self.sent.push(content);
        other.shown.push(0);
    }

    /// Handles what arrives; sometimes a crash comes between open and commit, and it is delivered again.
    fn hear(&mut self, arrival: &Arrival, other: &Self, rng: &mut ChaCha20Rng) {
        loop {
            let before = self.snapshot();
            let mut plain = Plaintext::new();
            let opened = self.open(arrival, &mut plain);
            assert_eq!(self.snapshot(), before, "only the commit changes the state");
            if opened.is_err() {
                assert!(self.end.next.is_empty() && plain.is_empty());
                if let Some(number) = arrival.number {
                    assert_eq!(
                        self.shown[number], 1,
                        "the first intact copy of {number}: {opened:?}"
                    );
                }
                return;
            }
            let number = usize::from_le_bytes(plain[1..9].try_into().unwrap());
            assert_eq!(plain[..], other.sent[number][..], "a wrong content");
            assert!(
                arrival.number.is_none_or(|sent| sent == number),
                "the content of another frame"
            );
            if below(rng, 20) == 0 {
                self.restart();
                continue;
            }
            core::mem::swap(&mut self.end.session, &mut self.end.next);
            self.pending = None;
            self.shown[number] += 1;
            assert_eq!(self.shown[number], 1, "shown twice");
            if below(rng, 10) == 0 {
                self.restart();
            }
            return;
        }
    }

    fn open(&mut self, arrival: &Arrival, plain: &mut Plaintext) -> Result<(), Error> {
        let End { session, next, .. } = &mut self.end;
        next.clear();
        let opened = match (codec::decode(&arrival.bytes), self.pending) {
            (Ok(Envelope::Confirmed { confirm, frame }), Some(pending)) => {
                pending.open(&confirm, frame, next, plain)
            }
            (Ok(envelope), None) => match envelope.frame() {
                Some(frame) => session.open(next, frame, plain),
                None => return Err(Error::Authentication),
            },
            _ => return Err(Error::Authentication),
        };
        opened.map(|_| ())
    }

    /// The stored form, or nothing while there is no session.
    fn snapshot(&self) -> Vec<u8> {
        if self.end.session.is_empty() {
            Vec::new()
        } else {
            self.end.stored()
        }
    }

    /// Stores and loads the state: what a crash or a power cycle does.
    fn restart(&mut self) {
        let bytes = self.snapshot();
        self.end.next.clear();
        if !bytes.is_empty() {
            *self.end.session = Session::empty();
            self.end.session.load(&bytes).unwrap();
            assert_eq!(self.snapshot(), bytes);
        }
    }
}

/// What a schedule did, to see that the schedules are worth something.
#[derive(Debug, Default)]
struct Count {
    sent: usize,
    shown: usize,
    arrivals: usize,
}

fn schedule(seed: u64, beginnings: &[Beginning]) -> Count {
    let mut rng = rng(seed);
    let percent = |rng: &mut ChaCha20Rng, most: u64| below(rng, most + 1);
    let weather = Weather {
        lost: percent(&mut rng, 50),
        repeated: percent(&mut rng, 40),
        damaged: percent(&mut rng, 40),
        delay: [1, 50, 400, 3_000][usize::try_from(below(&mut rng, 4)).unwrap()],
    };
    let beginning = &beginnings[usize::try_from(below(&mut rng, beginnings.len() as u64)).unwrap()];
    let mut a = Side::new(&beginning.a, None, seed ^ 0xaaaa_0000_0000, weather);
    let mut b = Side::new(
        &beginning.b,
        beginning.pending.as_ref(),
        seed ^ 0xbbbb_0000_0000,
        weather,
    );
    let mut count = Count::default();

    let turns = 5 + below(&mut rng, 40);
    let mut now = 0;
    for _ in 0..turns {
        now += below(&mut rng, 200);
        deliver(&mut a, &mut b, now, &mut rng, &mut count);
        let many = if below(&mut rng, 8) == 0 {
            below(&mut rng, 12)
        } else {
            1
        };
        for _ in 0..many {
            if below(&mut rng, 2) == 0 {
                a.speak(b'a', now, &mut b, &mut rng);
            } else {
                b.speak(b'b', now, &mut a, &mut rng);
            }
        }
    }
    // The link runs dry.
    while let Some(time) = a
        .link
        .next_arrival()
        .into_iter()
        .chain(b.link.next_arrival())
        .min()
    {
        deliver(&mut a, &mut b, time, &mut rng, &mut count);
    }
    count.sent = a.sent.len() + b.sent.len();
    count.shown = a
        .shown
        .iter()
        .chain(&b.shown)
        .filter(|&&times| times == 1)
        .count();
    count
}

fn deliver<'p>(
    a: &mut Side<'p>,
    b: &mut Side<'p>,
    now: Time,
    rng: &mut ChaCha20Rng,
    count: &mut Count,
) {
    loop {
        let (to_b, to_a) = (a.link.receive(now), b.link.receive(now));
        if to_b.is_none() && to_a.is_none() {
            return;
        }
        if let Some(arrival) = to_b {
            count.arrivals += 1;
            b.hear(&arrival, a, rng);
        }
        if let Some(arrival) = to_a {
            count.arrivals += 1;
            a.hear(&arrival, b, rng);
        }
    }
}

/// Says which schedule was running when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("schedule with seed {} failed", self.0);
        }
    }
}

#[test]
fn each_content_is_shown_at_most_once_and_never_a_wrong_one() {
    let schedules = std::env::var("HOSTCHAT_SCHEDULES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(SCHEDULES);
    let beginnings = [
        Beginning::both(true),
        Beginning::both(false),
        Beginning::pending(),
    ];
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let beginnings = &beginnings;
    let total = std::thread::scope(|scope| {
        let worker = |first| {
            move || {
                let mut total = Count::default();
                for seed in (first..schedules).step_by(usize::try_from(threads).unwrap()) {
                    let running = Seed(seed);
                    let count = schedule(seed, beginnings);
                    total.sent += count.sent;
                    total.shown += count.shown;
                    total.arrivals += count.arrivals;
                    drop(running);
                }
                total
            }
        };
        let workers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(worker(first)))
            .collect();
        workers.into_iter().fold(Count::default(), |sum, worker| {
            let count = worker.join().unwrap();
            Count {
                sent: sum.sent + count.sent,
                shown: sum.shown + count.shown,
                arrivals: sum.arrivals + count.arrivals,
            }
        })
    });
    println!("{schedules} schedules: {total:?}");
    if schedules >= 100 {
        // A quarter of the frames is lost on average, and a third of the repeats is refused.
        assert!(
            total.shown * 2 > total.sent
                && total.shown < total.sent
                && total.arrivals > total.shown
        );
    }
}
