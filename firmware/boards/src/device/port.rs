//! The serial port between the tasks of `usb.rs` and the application.

use core::cell::RefCell;

use cortex_m::asm::wfe;
use critical_section::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::Instant;
use hostchat_token::port::Port;

use crate::serve::Line;

/// The port.
pub static PORT: UsbPort = UsbPort {
    port: Mutex::new(RefCell::new(Port::new())),
    output: Signal::new(),
};

/// A [`Port`] and the news that there is something to send.
pub struct UsbPort {
    port: Mutex<RefCell<Port>>,
    /// For whoever sends.
    pub(super) output: Signal<CriticalSectionRawMutex, ()>,
}

impl Line for UsbPort {
    fn with_port<T>(&self, work: impl FnOnce(&mut Port) -> T) -> T {
        let (result, pending) = critical_section::with(|cs| {
            let mut port = self.port.borrow_ref_mut(cs);
            (work(&mut port), port.pending())
        });
        if pending > 0 {
            self.output.signal(());
        }
        result
    }

    fn wait<T>(&self, mut ready: impl FnMut(&mut Port) -> Option<T>) -> T {
        loop {
            if let Some(result) = self.with_port(&mut ready) {
                return result;
            }
            // An interrupt since the look has left its event, which ends the sleep at once: none is missed.
            wfe();
        }
    }

    fn uptime_ms(&self) -> u64 {
        Instant::now().as_millis()
    }
}
