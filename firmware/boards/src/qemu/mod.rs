//! QEMU's `mps2-an386`: a Cortex-M4 for tests, its flash and its button files on the host.
//!
//! | part | stands for | file |
//! |---|---|---|
//! | serial port | CMSDK UART0, and UART1 for the DTR line | `uart.rs` |
//! | flash | NOR flash in the file `token.flash`, by semihosting | `flash.rs` |
//! | random numbers | the host's generator at the file `entropy`, health-tested | `rng.rs` |
//! | button | a file that appears, named on the command line | `presence.rs` |
//! | clock | the board's 100 Hz counter; SysTick for keepalives | `clock.rs` |
//!
//! An emulator protects its keys from nobody who can read the memory or the files of its host: this board is for tests.

pub mod clock;
mod env;
pub mod flash;
pub mod host;
pub mod presence;
pub mod rng;
pub mod stack;
pub mod uart;

pub use env::QemuEnv;
