//! USB CDC-ACM, whose tasks run in an interrupt beside the application.
//!
//! ```text
//!  OUT packets ── receive ──▶ Port (hostchat-token) ──▶ send ── IN packets
//!  DTR dropped, bus reset ──▶ Port          tick ──▶ Port: keepalives; Lookout: LED, watchdog
//! ```

use embassy_executor::{SendSpawner, SpawnError, SpawnToken, Spawner, task};
use embassy_time::{Duration, Ticker};
use embassy_usb::class::cdc_acm::{CdcAcmClass, ControlChanged, Receiver, Sender, State};
use embassy_usb::{Builder, Config, Handler, UsbDevice};
use heapless::Vec;
use hostchat_core::icd::{USB_NAME, USB_PRODUCT, USB_VENDOR};
use hostchat_token::port::{Port, TICK_MS};
use static_cell::StaticCell;

use super::chip::Bus;
use super::port::PORT;
use super::status::{self, Lookout};
use crate::serve::Line as _;

/// Bytes of a packet at full speed.
const PACKET: usize = 64;

/// Starts the port: its tasks run where `spawner` spawns.
pub fn start(spawner: SendSpawner, driver: Bus, serial_number: [u8; 8], lookout: Lookout) {
    static SHOWN: StaticCell<[u8; 16]> = StaticCell::new();

    let shown = SHOWN.init([b'0'; 16]);
    for (digits, byte) in shown.chunks_exact_mut(2).zip(serial_number) {
        let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit & 15)];
        digits.copy_from_slice(&[hex(byte >> 4), hex(byte)]);
    }
    let serial_number = core::str::from_utf8(shown).unwrap_or_default();
    if let Ok(task) = plug_in(driver, serial_number, lookout) {
        spawner.spawn(task);
    }
}

/// Makes the device and its tasks, all of the executor that this one runs in.
#[task]
async fn plug_in(driver: Bus, serial_number: &'static str, lookout: Lookout) {
    static CONFIGURATION: StaticCell<[u8; 128]> = StaticCell::new();
    static OBJECTS: StaticCell<[u8; 16]> = StaticCell::new();
    static CONTROL: StaticCell<[u8; 64]> = StaticCell::new();
    static STATE: StaticCell<State<'static>> = StaticCell::new();
    static ASLEEP: StaticCell<Asleep> = StaticCell::new();

    let mut config = Config::new(USB_VENDOR, USB_PRODUCT);
    config.manufacturer = Some("hostchat");
    config.product = Some(USB_NAME);
    config.serial_number = Some(serial_number);
    config.max_power = 100;
    let mut builder = Builder::new(
        driver,
        config,
        CONFIGURATION.init([0; 128]),
        OBJECTS.init([0; 16]),
        &mut [],
        CONTROL.init([0; 64]),
    );
    let class = CdcAcmClass::new(&mut builder, STATE.init(State::new()), PACKET as u16);
    builder.handler(ASLEEP.init(Asleep));
    let (sender, receiver, control) = class.split_with_control();
    let device = builder.build();
    // SAFETY: it is only used here, by a task of an embassy executor.
    let spawner = unsafe { Spawner::for_current_executor() }.await;
    spawn(spawner, run(device));
    spawn(spawner, receive(receiver));
    spawn(spawner, send(sender));
    spawn(spawner, hang_up(control));
    spawn(spawner, tick(lookout));
}

/// A host that goes to sleep has gone away. (One that resets the bus drops DTR with it.)
struct Asleep;

impl Handler for Asleep {
    fn suspended(&mut self, suspended: bool) {
        if suspended {
            PORT.with_port(Port::handle_hang_up);
        }
    }
}

/// Spawns a task, which there is room for because it is spawned once.
fn spawn<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    if let Ok(task) = task {
        spawner.spawn(task);
    }
}

#[task]
async fn run(mut device: UsbDevice<'static, Bus>) -> ! {
    device.run().await
}

#[task]
async fn receive(mut receiver: Receiver<'static, Bus>) -> ! {
    let mut packet = [0; PACKET];
    loop {
        receiver.wait_connection().await;
        while let Ok(length) = receiver.read_packet(&mut packet).await {
            PORT.with_port(|port| {
                for &byte in packet.iter().take(length) {
                    port.handle_byte(byte);
                }
            });
        }
    }
}

#[task]
async fn send(mut sender: Sender<'static, Bus>) -> ! {
    let mut packet = Vec::<u8, PACKET>::new();
    // A transfer ends with a packet that is not full, if need be an empty one.
    let mut unfinished = false;
    loop {
        PORT.output.wait().await;
        sender.wait_connection().await;
        loop {
            packet.clear();
            PORT.with_port(|port| {
                while !packet.is_full()
                    && let Some(byte) = port.poll_output()
                {
                    let _ = packet.push(byte);
                }
            });
            if packet.is_empty() && !unfinished {
                break;
            }
            let sent = sender.write_packet(&packet).await;
            unfinished = sent.is_ok() && packet.is_full();
            if !unfinished {
                break;
            }
        }
    }
}

#[task]
async fn hang_up(control: ControlChanged<'static>) -> ! {
    let mut open = false;
    loop {
        control.control_changed().await;
        if core::mem::replace(&mut open, control.dtr()) && !open {
            PORT.with_port(Port::handle_hang_up);
        }
    }
}

#[task]
async fn tick(mut lookout: Lookout) -> ! {
    let mut ticker = Ticker::every(Duration::from_millis(status::LOOK_MS.into()));
    let mut ms = 0;
    loop {
        ticker.next().await;
        lookout.look();
        ms += status::LOOK_MS;
        if ms >= TICK_MS {
            ms = 0;
            PORT.with_port(Port::handle_tick);
        }
    }
}
