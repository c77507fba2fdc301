//! Frames in, frames out: the work runs beside the port, so that keepalives never wait for it.
//!
//! ```text
//!  reader (this thread) ── request ──▶ worker: App::handle ── reply ──▶ port
//!       │  cancel ▶ button                                      ▲
//!       └─ while a request is under way: keepalive every 50 ms ─┘
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use heapless::Vec;
use hostchat_core::icd::link::{Deframer, MAX_SERIAL, encode_serial, encode_serial_raw};
use hostchat_core::icd::{Activity, FromToken, LinkError, MAX_LINK, ToToken};
use hostchat_core::wire::codec;
use hostchat_token::App;
use hostchat_token::host::HostEnv;
use signal_hook::consts::{SIGINT, SIGTERM};
use zeroize::Zeroize as _;

use crate::Failure;
use crate::button::Button;
use crate::pty::{Input, Pty};

/// Time between two looks at the clock: keepalives go out at this pace, twice as fast as the host expects.
const TICK: Duration = Duration::from_millis(50);

/// Time between two looks at whether the token has been idle too long.
const IDLE_LOOK: Duration = Duration::from_secs(5);

/// Stack of the worker: four times what it may need, of which a page exists once it is used.
const WORKER_STACK: usize = 8 << 20;

/// What the worker is told.
enum Order {
    Handle {
        sequence: u8,
        request: std::vec::Vec<u8>,
    },
    /// The host is gone.
    HangUp,
}

struct Port<'p> {
    pty: &'p Pty,
    /// One frame at a time.
    writing: Mutex<()>,
    /// Sequence number of the request under way.
    under_way: Mutex<Option<u8>>,
}

impl Port<'_> {
    fn write(&self, frame: &[u8]) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // A host that is gone or does not read misses the frame; it will ask again.
        let _ = self.pty.write(frame);
    }

    fn send(&self, sequence: u8, message: &FromToken<'_>) {
        let mut frame = Vec::<u8, MAX_SERIAL>::new();
        if encode_serial(sequence, message, &mut frame).is_ok() {
            self.write(&frame);
        }
    }

    fn keep_alive(&self, button: &Button) {
        let under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(sequence) = *under_way {
            let activity = if button.is_waited_for() {
                Activity::TouchNeeded
            } else {
                Activity::Processing
            };
            self.send(sequence, &FromToken::Keepalive(activity));
        }
    }

    fn begin(&self, sequence: u8) -> bool {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let free = under_way.is_none();
        if free {
            *under_way = Some(sequence);
        }
        free
    }

    /// Ends the request under way: after its reply no keepalive of it leaves.
    fn finish(&self, sequence: u8, reply: &[u8]) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *under_way = None;
        let mut frame = Vec::<u8, MAX_SERIAL>::new();
        if !reply.is_empty() && encode_serial_raw(sequence, reply, &mut frame).is_ok() {
            self.write(&frame);
        }
    }
}

/// Serves one host after the other until a signal asks it to end.
pub(crate) fn serve(mut app: App<HostEnv>, pty: &Pty, button: &Button) -> Result<(), Failure> {
    let ended = std::sync::Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, std::sync::Arc::clone(&ended))
            .map_err(|error| Failure::Io("take signals", error))?;
    }
    let port = Port {
        pty,
        writing: Mutex::new(()),
        under_way: Mutex::new(None),
    };
    println!("ready: {}", pty.link().display());

    std::thread::scope(|scope| {
        let (orders, todo) = sync_channel::<Order>(4);
        let port = &port;
        let work = move || {
            let mut was_unlocked = false;
            loop {
                match todo.recv_timeout(IDLE_LOOK) {
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => app.lock_if_idle(),
                    Ok(Order::HangUp) => app.lock(),
                    Ok(Order::Handle { sequence, request }) => {
                        handle(&mut app, port, sequence, &request);
                    }
                }
                if was_unlocked && !app.is_unlocked() {
                    wipe_stack();
                }
                was_unlocked = app.is_unlocked();
            }
        };
        let worker = Builder::new().stack_size(WORKER_STACK);
        let started = worker.spawn_scoped(scope, work);
        started.map_err(|error| Failure::Io("start the token", error))?;
        let result = read(port, button, &orders, &ended);
        button.cancel();
        drop(orders);
        result
    })
}

/// Answers one request, in a frame of its own: what is left of its work lies where [`wipe_stack`] reaches.
#[inline(never)]
fn handle(app: &mut App<HostEnv>, port: &Port<'_>, sequence: u8, request: &[u8]) {
    let mut reply = Vec::<u8, MAX_LINK>::new();
    embassy_futures::block_on(app.handle(request, &mut reply));
    port.finish(sequence, &reply);
}

/// Overwrites what the work of an unlocked token has left on the stack below its caller: a key that is moved is wiped only
/// where it comes to rest.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0_u8; WORKER_STACK / 4];
    below.zeroize();
    std::hint::black_box(&mut below);
}

fn read(
    port: &Port<'_>,
    button: &Button,
    orders: &SyncSender<Order>,
    ended: &AtomicBool,
) -> Result<(), Failure> {
    let mut deframer = Deframer::new();
    let mut buffer = [0; 4096];
    let mut connected = false;
    while !ended.load(Ordering::SeqCst) {
        port.keep_alive(button);
        match port
            .pty
            .read(&mut buffer, TICK)
            .map_err(|error| Failure::Io("read the port", error))?
        {
            Input::Quiet => {}
            Input::HungUp => {
                if std::mem::take(&mut connected) {
                    deframer = Deframer::new();
                    button.cancel();
                    let _ = orders.send(Order::HangUp);
                    port.pty.flush();
                }
                // Nobody has the port open, and polling it returns at once.
                std::thread::sleep(Duration::from_millis(5));
            }
            Input::Bytes(length) => {
                connected = true;
                for &byte in buffer.get(..length).unwrap_or_default() {
                    if let Some(Ok((sequence, message))) = deframer.push(byte) {
                        take(port, button, orders, sequence, message);
                    }
                }
            }
        }
    }
    Ok(())
}

fn take(
    port: &Port<'_>,
    button: &Button,
    orders: &SyncSender<Order>,
    sequence: u8,
    message: &[u8],
) {
    if matches!(codec::decode::<ToToken<'_>>(message), Ok(ToToken::Cancel)) {
        button.cancel();
    } else if port.begin(sequence) {
        button.begin();
        // The worker takes one order at a time and at most one is under way: there is room.
        let _ = orders.send(Order::Handle {
            sequence,
            request: message.to_vec(),
        });
    } else {
        port.send(sequence, &FromToken::Refused(LinkError::Busy));
    }
}
