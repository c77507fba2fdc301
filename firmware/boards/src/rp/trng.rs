//! The RP2350's source of noise: its TRNG (data sheet 12.12), with its own tests on.
//!
//! The generator samples ring oscillators of its own, evens the bits out (von Neumann), tests each block of 192 bits, and
//! starts a block anew that fails. After four failures of the autocorrelation in a row it stops until it is reset, which
//! is a broken source here only if it happens again and again. What it gives is health-tested once more and hashed
//! (`hostchat_token::random`).

use embassy_rp::pac::TRNG;
use embassy_time::{Duration, Instant};
use hostchat_token::random::Source;
use zeroize::Zeroize as _;

/// Cycles between two samples, and which of four oscillators: the data sheet's advice for blocks that pass in 2 ms.
const SAMPLE_CYCLES: u32 = 25;
const OSCILLATOR: u8 = 1;
/// Bytes of a block.
const BLOCK: usize = 24;
/// How long one block may take, its failed forerunners included: far above the 2 ms, because some take long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The generator.
pub struct Trng(());

impl Trng {
    pub(super) fn start() -> Self {
        set_up();
        Self(())
    }
}

/// Resets the generator and starts it.
fn set_up() {
    TRNG.trng_sw_reset().write(|w| w.set_trng_sw_reset(true));
    // The reset takes some cycles, which a read outlasts.
    let _ = TRNG.trng_sw_reset().read();
    TRNG.trng_config().write(|w| w.set_rnd_src_sel(OSCILLATOR));
    TRNG.sample_cnt1().write(|w| *w = SAMPLE_CYCLES);
    TRNG.trng_debug_control().write(|w| {
        w.set_auto_correlate_bypass(false);
        w.set_trng_crngt_bypass(false);
        w.set_vnc_bypass(false);
    });
    TRNG.rnd_source_enable().write(|w| w.set_rnd_src_en(true));
}

/// Reads a block; reading its last word starts the next. `None` if there is none in time.
fn block() -> Option<[u8; BLOCK]> {
    let begin = Instant::now();
    while !TRNG.trng_valid().read().ehr_valid() {
        if TRNG.rng_isr().read().autocorr_err() {
            set_up();
        }
        if begin.elapsed() > PATIENCE {
            return None;
        }
    }
    let mut block = [0; BLOCK];
    let words = [
        TRNG.ehr_data0(),
        TRNG.ehr_data1(),
        TRNG.ehr_data2(),
        TRNG.ehr_data3(),
        TRNG.ehr_data4(),
        TRNG.ehr_data5(),
    ];
    for (bytes, word) in block.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.read().to_le_bytes());
    }
    TRNG.rng_icr().write(|w| {
        w.set_ehr_valid(true);
        w.set_crngt_err(true);
        w.set_vn_err(true);
    });
    Some(block)
}

impl Source for Trng {
    fn fill(&mut self, out: &mut [u8]) -> bool {
        for part in out.chunks_mut(BLOCK) {
            let Some(mut block) = block() else {
                return false;
            };
            for (to, from) in part.iter_mut().zip(&block) {
                *to = *from;
            }
            block.zeroize();
        }
        true
    }
}
