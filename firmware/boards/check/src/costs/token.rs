//! What a token's operations cost in instructions: the emulator runs with `-icount shift=0`, so that its clock counts them.
//!
//! Everything is seeded: each run of one image counts the same. What the host's half computes is not counted.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed check")]

use alloc::vec;
use alloc::vec::Vec;

use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use hostchat_core::icd::{Command, FromToken, HostUnlock, Reply, ToToken, UnlockKind};
use hostchat_core::wire::{MAX_CONTENT, PrekeyKind, codec};
use hostchat_token::testing::{Bench, TestRng};

use crate::token::support::{PIN, Person, TODAY, exchange, paired, two};
use hostchat_boards::qemu::host::fail;

/// Largest value of SysTick's counter.
const TICKS: u32 = 0x00ff_ffff;
/// Instructions per tick: one takes a nanosecond, and the counter runs at 25 MHz (ARM DAI0386).
const PER_TICK: u64 = 40;

/// Counts the instructions of what it is told to run; each call must be shorter than a turn of the counter, 671 million.
struct Meter {
    timer: SYST,
    ticks: u64,
}

impl Meter {
    fn new() -> Self {
        let Some(peripherals) = Peripherals::take() else {
            fail(format_args!("the counter is taken"));
        };
        let mut timer = peripherals.SYST;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(TICKS);
        timer.clear_current();
        timer.enable_counter();
        Self { timer, ticks: 0 }
    }

    fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.timer.clear_current();
        let before = SYST::get_current();
        let result = work();
        let after = SYST::get_current();
        if self.timer.has_wrapped() {
            fail(format_args!("too long for the counter"));
        }
        // It counts down, and a cleared counter begins at the top.
        let top = if before == 0 { TICKS } else { before };
        self.ticks += u64::from(top.saturating_sub(after));
        result
    }

    /// Prints what was counted since the last such line.
    fn show(&mut self, name: &str) {
        let thousands = core::mem::take(&mut self.ticks) * PER_TICK / 1000;
        println!("cost of {name}: {thousands} thousand instructions");
    }

    /// As `Bench::call`, with the token's work counted.
    fn ask<T>(
        &mut self,
        person: &mut Person,
        command: &Command<'_>,
        take: impl FnOnce(Reply<'_>) -> Option<T>,
    ) -> T {
        let request = person.bench.seal_command(command);
        let reply = self.count(|| person.bench.send_raw(&request));
        person.bench.open_reply(&reply).ok().and_then(take).unwrap()
    }

    fn seal(&mut self, from: &mut Person, to: &Person, content: &[u8]) -> Vec<u8> {
        let peer = to.address.clone();
        self.ask(
            from,
            &Command::Seal { peer, content },
            |reply| match reply {
                Reply::Sealed { envelope, .. } => Some(envelope.to_vec()),
                _ => None,
            },
        )
    }

    /// Opens and commits.
    fn open(&mut self, to: &mut Person, envelope: &[u8]) {
        let own = to.address.clone();
        let command = Command::Open {
            own,
            envelope,
            accept_changed: false,
        };
        let hash = self.ask(to, &command, |reply| match reply {
            Reply::Opened(opened) => Some(opened.hash),
            _ => None,
        });
        self.ask(to, &Command::Commit { hash }, |reply| {
            matches!(reply, Reply::Done).then_some(())
        });
    }

    fn unlock(&mut self, bench: &mut Bench) {
        let hello = bench.hello().unwrap();
        let (kind, mut rng) = (UnlockKind::Unlock, TestRng::default());
        let (id, salt) = (&hello.token_id, &hello.salt);
        let (unlock, start) = HostUnlock::start(kind, id, salt, &PIN.prs, &mut rng).unwrap();
        let reply = self.count(|| bench.send(&start));
        let answer = codec::decode::<FromToken<'_>>(&reply).unwrap();
        let (mut channel, tag) = unlock.finish(&answer).unwrap();
        let mut body = heapless::Vec::<u8, 128>::new();
        channel.seal(&PIN.wrap, &mut body).unwrap();
        let reply = self.count(|| bench.send(&ToToken::UnlockFinish { tag, body: &body }));
        let answer = codec::decode::<FromToken<'_>>(&reply).unwrap();
        assert!(matches!(answer, FromToken::Sealed { counter: 0, .. }));
    }
}

/// Prints a line for each operation.
pub(crate) fn operations() {
    let mut meter = Meter::new();

    let (mut a, mut b) = two();
    let peer = b.address.clone();
    let begin = Command::PairBegin {
        own: a.address.clone(),
        peer,
        accept_changed: false,
    };
    let code = meter.ask(&mut a, &begin, |reply| match reply {
        Reply::Code(code) => Some(code),
        _ => None,
    });
    let offer = meter.ask(&mut a, &Command::PairOffer, |reply| match reply {
        Reply::Offered(offered) => Some(offered.offer),
        _ => None,
    });
    let (answer, _) = b.answer(&offer, code, false).unwrap();
    meter.ask(&mut a, &Command::PairConfirm { answer }, |reply| {
        matches!(reply, Reply::Established { .. }).then_some(())
    });
    meter.show("a pairing that shows the code");

    let (mut a, mut b) = two();
    let code = a.show_code(&b.address, false).unwrap();
    let (offer, _) = a.offer().unwrap();
    let command = Command::PairAnswer {
        own: b.address.clone(),
        offer,
        code,
        accept_changed: false,
    };
    let answer = meter.ask(&mut b, &command, |reply| match reply {
        Reply::Answered(answered) => Some(answered.answer),
        _ => None,
    });
    a.confirm(&answer).unwrap();
    let first = a.seal(&b.address, b"hello").unwrap();
    meter.open(&mut b, &first);
    meter.show("a pairing that types the code");

    let (mut a, mut b) = paired();
    for (bytes, small) in [(256, true), (MAX_CONTENT, false)] {
        let content = vec![b'x'; bytes];
        let stepped = meter.seal(&mut a, &b, &content);
        meter.show(if small {
            "seal 256 with a step"
        } else {
            "seal 4096 with a step"
        });
        meter.open(&mut b, &stepped);
        meter.show(if small {
            "open 256 with a step"
        } else {
            "open 4096 with a step"
        });
        let plain = meter.seal(&mut a, &b, &content);
        meter.show(if small { "seal 256" } else { "seal 4096" });
        meter.open(&mut b, &plain);
        meter.show(if small { "open 256" } else { "open 4096" });
        exchange(&mut b, &mut a, b"your turn");
    }

    for kind in core::iter::once(PrekeyKind::LastResort).chain([PrekeyKind::OneTime; 15]) {
        a.prekey(kind, TODAY).unwrap();
    }
    let (kind, now) = (PrekeyKind::OneTime, TODAY);
    meter.ask(&mut a, &Command::NewPrekey { kind, now }, |reply| {
        matches!(reply, Reply::Prekey(_)).then_some(())
    });
    meter.show("a prekey");

    assert!(a.bench.power_cycle());
    meter.unlock(&mut a.bench);
    meter.show("an unlock");
}
