//! AES-SIV against the `aes-siv` crate as an oracle, on random inputs.

use aes_siv::KeyInit as _;
use aes_siv::siv::Aes256Siv;
use hostchat_core::crypto::siv::{MAX_AD, SivKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Draws from `0..=max` with small values, block borders and the maximum well represented.
fn length(rng: &mut ChaCha20Rng, max: usize) -> usize {
    let uniform = rng.next_u32() as usize % (max + 1);
    match rng.next_u32() % 4 {
        0 => uniform.min(rng.next_u32() as usize % 18),
        1 => (uniform / 16 * 16 + rng.next_u32() as usize % 3)
            .saturating_sub(1)
            .min(max),
        _ => uniform,
    }
}

#[test]
fn agrees_with_the_aes_siv_crate_on_random_inputs() {
    const ROUNDS: usize = 2400;
    let mut rng = ChaCha20Rng::seed_from_u64(5297);
    let (mut bytes, mut longest, mut most_ad) = (0, 0, 0);
    for round in 0..ROUNDS {
        let mut raw = [0; 64];
        rng.fill_bytes(&mut raw);
        let ad_count = match round % 8 {
            0 => length(&mut rng, MAX_AD),
            _ => rng.next_u32() as usize % 5,
        };
        let mut draw = |max| {
            let mut string = vec![0; length(&mut rng, max)];
            rng.fill_bytes(&mut string);
            string
        };
        let ad: Vec<Vec<u8>> = (0..ad_count).map(|_| draw(300)).collect();
        let ad: Vec<&[u8]> = ad.iter().map(Vec::as_slice).collect();
        let plain = draw(5000);

        let expected = Aes256Siv::new(&raw.into())
            .encrypt(&ad, &plain)
            .expect("the oracle seals");
        let key = SivKey::from_bytes(raw);
        let mut buf = plain.clone();
        let tag = key.seal_in_place(&ad, &mut buf);
        assert_eq!([&tag[..], &buf].concat(), expected, "round {round}");
        assert_eq!(
            key.open_in_place(&ad, &mut buf, &tag),
            Ok(()),
            "round {round}"
        );
        assert_eq!(buf, plain, "round {round}");

        bytes += plain.len();
        longest = longest.max(plain.len());
        most_ad = most_ad.max(ad_count);
    }
    println!(
        "aes-siv 0.8: {ROUNDS} random inputs agree ({bytes} bytes, longest {longest}, at most {most_ad} ADs)"
    );
    assert!(longest > 4900 && most_ad > 100, "the inputs are varied");
}
