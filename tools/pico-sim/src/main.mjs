// hostchat-pico-sim: runs the token's UF2 image as a USB serial device. `cargo xtask token --board pico` starts it.
//
//   file descriptor 3   the serial port's bytes
//   file descriptor 4   in: "1", the port was opened, or "0", it was closed; out: "1" once the device is on the bus
//
// It ends with status 0 when its caller goes, 3 when the chip reset itself: the caller starts it again, as a new power
// cycle with the same flash. With --control it takes commands as well: control.mjs.

import fs from 'node:fs';
import net from 'node:net';
import { parseArgs } from 'node:util';

import { listen } from './control.mjs';
import { TIMES } from './flash.mjs';
import { Machine } from './machine.mjs';
import { parseUf2 } from './uf2.mjs';

const RESET = 3;

const { values: options } = parseArgs({
  options: {
    image: { type: 'string' }, // UF2
    flash: { type: 'string' }, // the chip's content; made if missing
    entropy: { type: 'string' }, // where the ring oscillator's bits come from
    button: { type: 'string' }, // BOOTSEL is down while this file exists
    control: { type: 'string' }, // socket that takes commands; made anew
    'flash-times': { type: 'string', default: 'typical' }, // none, typical, worst
    trace: { type: 'boolean', default: false }, // prints how long answers take, in emulated time
  },
});
const say = (text) => process.stderr.write(`pico-sim: ${text}\n`);

const machine = new Machine({
  blocks: parseUf2(fs.readFileSync(options.image)),
  flash: options.flash,
  times: TIMES[options['flash-times']],
  entropy: options.entropy,
  isPressed: () => fs.existsSync(options.button),
});
const { usb } = machine;
const port = new net.Socket({ fd: 3 });
const line = new net.Socket({ fd: 4 });

let asked = null;
port.on('data', (bytes) => {
  asked ??= machine.uptime;
  if (!usb.write(bytes)) port.pause();
  machine.run();
});
usb.onDrain = () => port.resume();
usb.onData = (bytes) => {
  if (options.trace && asked !== null && bytes.length > 20) {
    say(`answered after ${(machine.uptime - asked).toFixed(1)} ms`);
    asked = null;
  }
  if (!port.write(bytes)) usb.setHeld(true);
};
port.on('drain', () => {
  usb.setHeld(false);
  machine.run();
});

let deepest = 0;
line.on('data', (states) => {
  for (const state of states.toString()) usb.setOpen(state === '1');
  const { used, size } = machine.stack;
  if (used > deepest) {
    deepest = used;
    process.stderr.write(`stack: ${used} of ${size} bytes\n`);
  }
  machine.run();
});
for (const socket of [port, line]) {
  socket.on('error', () => process.exit(0));
  socket.on('close', () => process.exit(0));
}

usb.onReady = ({ vendor, product, names }) => {
  const hex = (number) => number.toString(16).padStart(4, '0');
  say(`attached: ${hex(vendor)}:${hex(product)} ${names.join(', ')}`);
  line.write('1');
};
usb.onFault = say;
if (options.control) listen(options.control, machine);
machine.onStop = (reason) => {
  say(reason === 'reset' ? 'the chip has reset itself' : reason);
  process.exit(reason === 'reset' ? RESET : 1);
};
machine.run();
