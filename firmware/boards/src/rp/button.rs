//! The button: BOOTSEL, which shares a pin with the flash chip's select line.

use embassy_rp::Peri;
use embassy_rp::peripherals::BOOTSEL;

/// The button.
pub struct Button(Peri<'static, BOOTSEL>);

impl Button {
    /// Takes the pin.
    #[must_use]
    pub fn new(pin: Peri<'static, BOOTSEL>) -> Self {
        Self(pin)
    }

    /// Reads the pin, which stops everything for some 30 microseconds.
    #[cfg(feature = "pico")]
    pub(crate) fn is_down(&mut self) -> bool {
        embassy_rp::bootsel::is_bootsel_pressed(self.0.reborrow())
    }

    /// Reads the pin, which stops everything for some 30 microseconds.
    #[cfg(feature = "pico2")]
    pub(crate) fn is_down(&mut self) -> bool {
        use embassy_rp::pac::IO_QSPI;
        use embassy_rp::pac::io::vals::Oeover;

        // It is ours alone.
        let _ = self.0.reborrow();
        let pin = IO_QSPI.gpio(SELECT);
        let driven = pin.ctrl().read();
        let mut floating = driven;
        floating.set_oeover(Oeover::DISABLE);
        let (control, status) = (pin.ctrl().as_ptr(), pin.status().as_ptr());
        let seen = critical_section::with(|_| {
            // SAFETY: the registers are those of the flash chip's select line, and `driven` is what stands in one. Nothing
            // reads the flash meanwhile: interrupts are off, the other core and DMA are not used, and the function is in
            // RAM.
            unsafe { float(control.cast(), status.cast(), floating.0, driven.0) }
        });
        // The button pulls the line down.
        !embassy_rp::pac::io::regs::GpioStatus(seen).infrompad()
    }
}

/// Place of the select line among the pins of the flash chip (RP2350 data sheet 9.11.2: USB has the first two).
#[cfg(feature = "pico2")]
const SELECT: usize = 3;

/// Lets the select line float for as long as the button needs to pull it down; gives what the pin's status is then.
///
/// # Safety
///
/// `control` and `status` are the line's registers, and nothing uses the flash while it floats.
#[cfg(feature = "pico2")]
#[inline(never)]
#[unsafe(link_section = ".data.button")]
unsafe fn float(control: *mut u32, status: *const u32, floating: u32, driven: u32) -> u32 {
    let seen;
    // SAFETY: as above. The program is in RAM whole: it calls nothing, and reads nothing but what it was given.
    unsafe {
        core::arch::asm!(
            "str {floating}, [{control}]",
            "2: subs {wait}, #1",
            "bne 2b",
            "ldr {seen}, [{status}]",
            "str {driven}, [{control}]",
            control = in(reg) control,
            status = in(reg) status,
            floating = in(reg) floating,
            driven = in(reg) driven,
            // Two or three cycles each, at 150 MHz: some 30 microseconds.
            wait = inout(reg) 2_000 => _,
            seen = out(reg) seen,
            options(nostack),
        );
    }
    seen
}
