//! A random generator over a source of noise, which stops when the source looks broken.
//!
//! ```text
//!  Source (TRNG, ring oscillator, the host of an emulator)
//!     └─ every byte ─▶ health tests (SP 800-90B §4.4) ─▶ HMAC-SHA-256 pool ─▶ random numbers
//!                          └─ one failure ─▶ no random numbers until the next power cycle
//! ```
//!
//! Invariant: a generator that is handed out was mixed with [`FRESH`] new bytes for this request, and all bytes that its
//! source ever gave passed the tests. The caller's loop is [`crate::Env::rng`], which returns [`Random::healthy`].

use core::convert::Infallible;

use hostchat_core::crypto::mac::hmac_sha256;
use rand_core::{TryCryptoRng, TryRng};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes taken from the source before each request: 256 bits of entropy at [`CLAIMED_BITS`] a byte.
pub const FRESH: usize = 64;
/// Entropy that the tests take for granted, in bits per byte. Far below what a working source gives, so that the
/// tests tell broken sources from working ones and never a working one from a perfect one.
pub const CLAIMED_BITS: u32 = 4;
/// Samples that must pass before the first output (SP 800-90B §4.3, at least 1,024).
const START_UP: usize = 1024;
/// So many equal bytes in a row fail: 1 + 40 / [`CLAIMED_BITS`], a false alarm in 2^40 (SP 800-90B §4.4.1).
const REPETITIONS: u32 = 1 + 40_u32.div_ceil(CLAIMED_BITS);
/// Samples of one window of the adaptive proportion test (SP 800-90B §4.4.2, sources that are not binary).
const WINDOW: u32 = 512;
/// So many bytes of a window equal to its first fail: the value of the binomial distribution over 512 samples of
/// probability 2^-[`CLAIMED_BITS`] that is exceeded once in 2^40.
const PROPORTION: u32 = 79;

/// Where noise comes from.
pub trait Source {
    /// Fills `out` with noise; `false` if the source does not answer, which counts as broken.
    fn fill(&mut self, out: &mut [u8]) -> bool;
}

/// The two continuous health tests of SP 800-90B.
#[derive(Debug, Default)]
struct Health {
    last: Option<u8>,
    run: u32,
    first: u8,
    seen: u32,
    equal: u32,
    failed: bool,
}

impl Health {
    fn sample(&mut self, byte: u8) {
        self.run = if self.last == Some(byte) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(byte);
        if self.seen == 0 {
            (self.first, self.equal) = (byte, 0);
        }
        if byte == self.first {
            self.equal += 1;
        }
        self.seen = (self.seen + 1) % WINDOW;
        self.failed |= self.run >= REPETITIONS || self.equal >= PROPORTION;
    }
}

/// A random generator: an HMAC-SHA-256 pool that forgets its key after each output.
pub struct Random<S> {
    source: S,
    health: Health,
    key: Zeroizing<[u8; 32]>,
}

impl<S: Source> Random<S> {
    /// Tests the source and fills the pool. `device` (a serial number, a boot counter) is mixed in and adds no entropy;
    /// it tells devices apart whose sources are alike.
    pub fn new(source: S, device: &[u8]) -> Self {
        let mut random = Self {
            source,
            health: Health::default(),
            key: Zeroizing::new([0; 32]),
        };
        random.mix(device);
        for _ in 0..START_UP / FRESH {
            random.refresh();
        }
        random
    }

    /// Itself, mixed with fresh noise; `None` once a health test failed.
    pub fn healthy(&mut self) -> Option<&mut Self> {
        self.refresh();
        (!self.health.failed).then_some(self)
    }

    /// Draws a number, for what needs no more than to differ each time.
    pub fn next_number(&mut self) -> u32 {
        let Ok(number) = self.try_next_u32();
        number
    }

    fn refresh(&mut self) {
        let mut fresh = Zeroizing::new([0; FRESH]);
        if !self.source.fill(&mut *fresh) {
            self.health.failed = true;
        }
        for &byte in fresh.iter() {
            self.health.sample(byte);
        }
        self.mix(&*fresh);
    }

    fn mix(&mut self, input: &[u8]) {
        self.step(&[b"mix", input]);
    }

    fn step(&mut self, parts: &[&[u8]]) {
        let mut next = hmac_sha256(&self.key, parts);
        self.key.copy_from_slice(&next);
        next.zeroize();
    }
}

impl<S: Source> TryRng for Random<S> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for (index, part) in (0_u32..).zip(out.chunks_mut(32)) {
            let mut block = hmac_sha256(&self.key, &[b"out", &index.to_be_bytes()]);
            part.iter_mut()
                .zip(&block)
                .for_each(|(to, from)| *to = *from);
            block.zeroize();
        }
        self.step(&[b"next"]);
        Ok(())
    }
}

impl<S: Source> TryCryptoRng for Random<S> {}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng as _, SeedableRng as _};

    use super::*;

    /// A perfect source up to byte `until`, then what `broken` makes of the byte's number.
    struct Noise {
        rng: ChaCha20Rng,
        until: usize,
        given: usize,
        broken: fn(usize) -> u8,
    }

    impl Noise {
        fn new(seed: u64, until: usize, broken: fn(usize) -> u8) -> Self {
            Self {
                rng: ChaCha20Rng::seed_from_u64(seed),
                until,
                given: 0,
                broken,
            }
        }
    }

    impl Source for Noise {
        fn fill(&mut self, out: &mut [u8]) -> bool {
            self.rng.fill_bytes(out);
            for byte in out {
                if self.given >= self.until {
                    *byte = (self.broken)(self.given);
                }
                self.given += 1;
            }
            true
        }
    }

    struct Dead;

    impl Source for Dead {
        fn fill(&mut self, _: &mut [u8]) -> bool {
            false
        }
    }

    #[cfg_attr(test, test)]
    pub fn a_working_source_passes_for_a_million_requests_worth_of_noise() {
        let mut random = Random::new(Noise::new(1, usize::MAX, |_| 0), b"");
        for _ in 0..16_384 {
            assert!(random.healthy().is_some());
        }
    }

    #[cfg_attr(test, test)]
    pub fn a_source_that_is_stuck_from_the_start_gives_no_random_numbers() {
        for broken in [|_| 0xFF, |_| 0, |_| 0x5A] {
            assert!(
                Random::new(Noise::new(1, 0, broken), b"")
                    .healthy()
                    .is_none()
            );
        }
        assert!(Random::new(Dead, b"").healthy().is_none());
    }

    #[cfg_attr(test, test)]
    pub fn a_source_that_favours_one_byte_gives_no_random_numbers() {
        // Every third byte: no run at all, but far too often.
        let lopsided = |at: usize| if at.is_multiple_of(3) { 7 } else { at as u8 };
        assert!(
            Random::new(Noise::new(1, 0, lopsided), b"")
                .healthy()
                .is_none()
        );
    }

    #[cfg_attr(test, test)]
    pub fn a_source_that_fails_later_is_noticed_at_once_and_for_good() {
        let mut random = Random::new(Noise::new(1, START_UP + FRESH, |_| 0xFF), b"");
        assert!(random.healthy().is_some());
        assert!(random.healthy().is_none());
        random.source.until = usize::MAX;
        assert!(random.healthy().is_none(), "until the next power cycle");
    }

    #[cfg_attr(test, test)]
    pub fn output_depends_on_noise_and_device_and_is_never_repeated() {
        let draw = |seed, device: &[u8]| {
            let mut random = Random::new(Noise::new(seed, usize::MAX, |_| 0), device);
            let mut bytes = [0; 80];
            random.fill_bytes(&mut bytes);
            bytes
        };
        let one = draw(1, b"a");
        assert_eq!(one, draw(1, b"a"));
        assert_ne!(one, draw(2, b"a"));
        assert_ne!(one, draw(1, b"b"));
        assert_ne!(one[..32], one[32..64]);

        let mut random = Random::new(Noise::new(1, usize::MAX, |_| 0), b"");
        let drawn: alloc::collections::BTreeSet<u64> =
            (0..10_000).map(|_| random.next_u64()).collect();
        assert_eq!(drawn.len(), 10_000);
    }
}
