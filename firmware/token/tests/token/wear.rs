//! How many messages a flash lives for.

use hostchat_token::testing::RamFlash;

use super::support::{Person, exchange, pair_up_to_message_3};

/// Pages of the token's part of a Raspberry Pi Pico's flash, as on the software token.
const PAGES: usize = 256;
/// Erases that a page of NOR flash stands, by the data sheets of the W25Q16JV and its like.
const ENDURANCE: u64 = 100_000;
const MESSAGES: u64 = 4_000;

#[test]
fn a_flash_lives_for_millions_of_messages() {
    let mut a = Person::on("alice", RamFlash::new(PAGES), 1);
    let mut b = Person::on("bob", RamFlash::new(PAGES), 2);
    let first = pair_up_to_message_3(&mut a, &mut b);
    b.read(&first).unwrap();
    let before = a.bench.flash.snapshot().wear().to_vec();
    for _ in 0..MESSAGES / 2 {
        exchange(&mut a, &mut b, &[b'x'; 250]);
        exchange(&mut b, &mut a, &[b'y'; 250]);
    }
    let after = a.bench.flash.snapshot();
    let worn = after.wear().iter().zip(&before).map(|(a, b)| a - b);
    let (worst, all) = (worn.clone().max().unwrap(), worn.sum::<u32>());
    assert!(worst > 0, "too few messages to tell");
    let life = ENDURANCE * MESSAGES / u64::from(worst);
    println!(
        "{MESSAGES} messages sent and received: {all} pages erased, {worst} times the same one; at {ENDURANCE} erases a page \
         the flash lives for {life} messages"
    );
    assert!(life > 2_000_000, "{life} messages");
}
