//! How many messages a flash lives for.

use hostchat_token::testing::RamFlash;

use super::support::{Person, exchange, pair_up_to_message_3};

const MESSAGES: u64 = 4_000;

/// The token's part of a Raspberry Pi Pico's flash, as on the software token: 100,000 erases a page, by the data sheets of
/// the W25Q16JV and its like.
#[test]
fn a_flash_of_the_pico_lives_for_millions_of_messages() {
    assert!(life(256, 100_000) > 2_000_000);
}

/// The token's part of an nRF52840's: 10,000 erases a page, by its product specification.
#[test]
fn a_flash_of_the_nrf52840_lives_for_a_hundred_thousand_messages() {
    assert!(life(96, 10_000) > 100_000);
}

/// How many messages a flash of so many pages lives for that stands so many erases of each.
fn life(pages: usize, endurance: u64) -> u64 {
    let mut a = Person::on("alice", RamFlash::new(pages), 1);
    let mut b = Person::on("bob", RamFlash::new(pages), 2);
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
    let life = endurance * MESSAGES / u64::from(worst);
    println!(
        "{pages} pages, {MESSAGES} messages sent and received: {all} pages erased, {worst} times the same one; at \
         {endurance} erases a page the flash lives for {life} messages"
    );
    life
}
