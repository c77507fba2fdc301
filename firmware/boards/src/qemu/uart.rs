//! The serial port: CMSDK UART0, driven by interrupts; UART1 stands for the DTR line.
//!
//! ```text
//!  UART0 ── receive interrupt ──▶ Port (hostchat-token) ──▶ transmit interrupt ── UART0
//!  UART1 ── `0`: the host closed the port ──▶ Port
//! ```

use core::cell::RefCell;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use critical_section::Mutex;
use heapless::Vec;
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::port::{Port, Work};

use super::clock;

/// How long a host may leave a reply unread before the token drops it.
const PATIENCE_MS: u64 = 2_000;

/// One CMSDK APB UART (ARM DDI0479, §4.3).
#[derive(Clone, Copy)]
struct Uart(usize);

const PORT_UART: Uart = Uart(0x4000_4000);
const LINE_UART: Uart = Uart(0x4000_5000);

/// Offsets of the registers.
const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CTRL: usize = 0x08;
const INT_CLEAR: usize = 0x0C;
const BAUD_DIVIDER: usize = 0x10;

/// Bits of STATE.
const TX_FULL: u32 = 1 << 0;
const RX_FULL: u32 = 1 << 1;
/// Bits of CTRL.
const TX_ENABLE: u32 = 1 << 0;
const RX_ENABLE: u32 = 1 << 1;
const TX_INTERRUPT: u32 = 1 << 2;
const RX_INTERRUPT: u32 = 1 << 3;
/// Bits of INT_CLEAR.
const TX_DONE: u32 = 1 << 0;
const RX_DONE: u32 = 1 << 1;

/// The smallest divider that the UART takes: QEMU does not wait for bits.
const FASTEST: u32 = 16;

impl Uart {
    fn read(self, register: usize) -> u32 {
        // SAFETY: a `Uart` is only made of the two bases above, where this board always has such a UART; the registers are
        // word-aligned, and only interrupt handlers and critical sections of this file use them.
        unsafe { ((self.0 + register) as *const u32).read_volatile() }
    }

    fn write(self, register: usize, value: u32) {
        // SAFETY: as in `read`; the UART does no DMA, so no write of a register touches memory.
        unsafe { ((self.0 + register) as *mut u32).write_volatile(value) }
    }

    fn receive(self) -> Option<u8> {
        let byte = (self.read(STATE) & RX_FULL != 0).then(|| self.read(DATA))?;
        Some(byte.to_le_bytes()[0])
    }
}

/// The board's interrupts (ARM DAI0386, "Interrupts").
#[derive(Clone, Copy)]
#[repr(u16)]
enum Interrupt {
    PortReceive = 0,
    PortTransmit = 1,
    LineReceive = 2,
}

// SAFETY: the numbers are those of the board's interrupt lines, fixed and distinct.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

static PORT: Mutex<RefCell<Port>> = Mutex::new(RefCell::new(Port::new()));

/// Lets `work` use the port with interrupts off, and then sends what it left to send.
pub fn with_port<T>(work: impl FnOnce(&mut Port) -> T) -> T {
    critical_section::with(|cs| {
        let mut port = PORT.borrow_ref_mut(cs);
        let result = work(&mut port);
        while PORT_UART.read(STATE) & TX_FULL == 0
            && let Some(byte) = port.poll_output()
        {
            PORT_UART.write(DATA, u32::from(byte));
        }
        result
    })
}

/// Switches the UARTs and their interrupts on.
pub fn start() {
    for uart in [PORT_UART, LINE_UART] {
        uart.write(BAUD_DIVIDER, FASTEST);
        uart.write(CTRL, TX_ENABLE | RX_ENABLE | TX_INTERRUPT | RX_INTERRUPT);
    }
    for interrupt in [
        Interrupt::PortReceive,
        Interrupt::PortTransmit,
        Interrupt::LineReceive,
    ] {
        // SAFETY: no critical section relies on a masked line of the NVIC, and none is under way: the handlers use the
        // port only through `with_port`.
        unsafe { NVIC::unmask(interrupt) };
    }
}

/// Serves interrupt line `number`; to be called by the handler of all of them.
pub fn handle_interrupt(number: i16) {
    match number {
        0 => with_port(|port| {
            PORT_UART.write(INT_CLEAR, RX_DONE);
            while let Some(byte) = PORT_UART.receive() {
                port.handle_byte(byte);
            }
        }),
        1 => with_port(|_| PORT_UART.write(INT_CLEAR, TX_DONE)),
        2 => with_port(|port| {
            LINE_UART.write(INT_CLEAR, RX_DONE);
            while let Some(line) = LINE_UART.receive() {
                if line == b'0' {
                    port.handle_hang_up();
                }
            }
        }),
        _ => {}
    }
}

/// Sleeps until there is something to do.
pub fn wait_for_work(request: &mut Vec<u8, MAX_LINK>) -> Work {
    loop {
        // Interrupts are off between the look and the sleep, which ends at a pending one all the same: none is missed.
        let work = critical_section::with(|_| {
            let work = with_port(|port| port.take_work(request));
            if work.is_none() {
                cortex_m::asm::wfi();
            }
            work
        });
        if let Some(work) = work {
            return work;
        }
    }
}

/// Sends the reply to the request under way; a host that does not read it in time loses it.
pub fn finish(reply: &[u8]) {
    let (mut since, mut left) = (clock::uptime_ms(), usize::MAX);
    while !with_port(|port| port.finish(reply)) {
        let pending = with_port(|port| port.pending());
        if pending < left {
            (since, left) = (clock::uptime_ms(), pending);
        } else if clock::uptime_ms() - since >= PATIENCE_MS {
            return with_port(Port::give_up);
        }
        cortex_m::asm::wfi();
    }
}
