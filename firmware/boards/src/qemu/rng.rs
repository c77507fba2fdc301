//! Random numbers: the host's generator, read through semihosting and tested like a noise source of a chip.
//!
//! The emulated board has no source of its own. The runner makes the file `entropy` a link to the host's generator; a
//! file with anything else in it is a broken source, and the health tests refuse it.

use hostchat_token::random::{Random, Source};

use super::host::{File, Mode};

/// The file `entropy` of the host; missing counts as broken.
pub struct HostEntropy(Option<File>);

impl Source for HostEntropy {
    fn fill(&mut self, out: &mut [u8]) -> bool {
        self.0.as_mut().is_some_and(|file| file.read(out).is_ok())
    }
}

/// Starts the generator, and draws the number that tells this power cycle from others.
///
/// While the source is broken there is no such number. 0 is as good as any then: nothing that is counted by power
/// cycle can begin without random numbers.
#[must_use]
pub fn start() -> (Random<HostEntropy>, u32) {
    let source = HostEntropy(File::open(c"entropy", Mode::Read).ok());
    let mut random = Random::new(source, b"qemu mps2-an386");
    let epoch = random.healthy().map_or(0, Random::next_number);
    (random, epoch)
}
