//! The token on a Raspberry Pi Pico 2: wiring only.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use heapless::Vec;
use hostchat_boards::rp;
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::app::Memory;

#[entry]
fn main() -> ! {
    // `entry` makes these references to statics, which nobody else can have.
    static mut MEMORY: Memory = Memory::new();
    static mut REQUEST: Vec<u8, MAX_LINK> = Vec::new();

    rp::run(|| embassy_rp::init(Default::default()), MEMORY, REQUEST)
}
