// A Raspberry Pi Pico: rp2040js with its gaps filled, at run time and without a fork.
//
// | gap in rp2040js 1.4.1 | filled in |
// |---|---|
// | OUT buffers are taken before there is data; DTR goes astray | usb.mjs |
// | SEV does nothing; WFI ignores the mask | cpu.mjs |
// | XIP_CTRL is missing, the SSI writes nothing, no BOOTSEL | flash.mjs |
// | the ring oscillator's random bit is always one | here |
// | a reset by watchdog or SYSRESETREQ hangs or does nothing | here |
// | no boot ROM; idle time is not real time; slow | rom.mjs, here, cpu.mjs |

import fs from 'node:fs';

import { RP2040 } from 'rp2040js';

import { Cpu, NANOS_PER_CYCLE } from './cpu.mjs';
import { Flash, FlashPins, Registers, SerialInterface, XipControl } from './flash.mjs';
import { BootRom } from './rom.mjs';
import { UsbHost } from './usb.mjs';

const RAM_PAINT = 0xcccccccc;
// Nanoseconds that the emulated clock may run ahead of the real one, and fall behind it before it is left behind.
const LEAD = 1e6;
const LAG = 100e6;
// Milliseconds of emulation between two looks at the world.
const SLICE = 4;

// The ring oscillator (2.17): its random bits are those of a file; behind the file's end all are ones, as in rp2040js.
class RingOscillator extends Registers {
  #file;
  #bytes = Buffer.alloc(0);
  #bit = 0;

  constructor(mcu, path) {
    super(mcu, 'ROSC');
    this.#file = fs.openSync(path, 'r');
  }

  readUint32(offset) {
    if (offset === 0x18) return (1 << 31) | (1 << 12); // STATUS: stable, enabled
    return offset === 0x1c ? this.#randomBit() : super.readUint32(offset);
  }

  #randomBit() {
    if (this.#bit === this.#bytes.length * 8) {
      this.#bytes = Buffer.alloc(512);
      this.#bytes = this.#bytes.subarray(0, fs.readSync(this.#file, this.#bytes));
      this.#bit = 0;
      if (!this.#bytes.length) return 1;
    }
    const bit = (this.#bytes[this.#bit >> 3] >> (this.#bit & 7)) & 1;
    this.#bit += 1;
    return bit;
  }
}

export class Machine {
  #mcu = new RP2040();
  #cpu;
  #chip;
  #origin = performance.now();
  #timer = null;

  // Called once, with the reason, when the chip resets itself or cannot go on.
  onStop = () => {};
  // Called with the button's level whenever the image looks at it.
  onLook = () => {};

  constructor({ blocks, flash, times, entropy, isPressed }) {
    const mcu = this.#mcu;
    const quiet = () => {};
    mcu.logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };
    mcu.reset();
    const chip = new Flash(mcu, flash, times, blocks);
    chip.onCut = (reason) => { this.#cpu.stopped = reason; };
    this.#chip = chip;
    const look = () => {
      const down = isPressed();
      this.onLook(down);
      return down;
    };
    Object.assign(mcu.peripherals, {
      0x14000: new XipControl(mcu, 'XIP_CTRL'),
      0x18000: new SerialInterface(mcu, chip.serialNumber),
      0x40018: new FlashPins(mcu, look),
      0x40060: new RingOscillator(mcu, entropy),
      0x40064: new Registers(mcu, 'VREG', { 0: 0x10b1 }),
    });
    this.#cpu = new Cpu(mcu);
    this.usb = new UsbHost(mcu);

    const watchdog = mcu.peripherals[0x40058];
    watchdog.onWatchdogTrigger = () => {
      // It would go off again at the same moment for ever.
      watchdog.alarm.enable = false;
      this.#cpu.stopped = 'reset';
    };
    const write = mcu.ppb.writeUint32;
    mcu.ppb.writeUint32 = (offset, value) => {
      if (offset === 0xd0c && value >>> 16 === 0x05fa && value & 4) this.#cpu.stopped = 'reset'; // AIRCR
      else write.call(mcu.ppb, offset, value);
    };
    // The temperature sensor: 27 degrees and a few bits of noise.
    const { adc } = mcu;
    const convert = adc.onADCRead;
    adc.onADCRead = (channel) => {
      adc.channelValues[4] = 874 + Math.floor(Math.random() * 5);
      convert(channel);
    };

    const rom = new BootRom(mcu, chip);
    mcu.onBreak = (code) => {
      if (!rom.handleBreak(code)) this.#cpu.stopped = `breakpoint at ${(mcu.core.PC - 2).toString(16)}`;
    };
    rom.start();
  }

  // Milliseconds since power-up, on the emulated clock.
  get uptime() {
    return this.#mcu.clock.nanos / 1e6;
  }

  // Milliseconds that the chip has worked since power-up: instructions and flash operations, not sleep.
  get worked() {
    return (this.#mcu.core.cycles * NANOS_PER_CYCLE + this.#chip.nanos) / 1e6;
  }

  // Lets the power go in the middle of the n-th flash operation from now.
  cutAt(count, seed) {
    this.#chip.cutAt(count, seed);
  }

  // How often each address was executed since the last call, counted every so many cycles; the first call begins.
  profile() {
    const counts = this.#cpu.samples;
    this.#cpu.samples = new Map();
    return counts ?? new Map();
  }

  // The deepest stack so far and its size in bytes: it lies at the bottom of the RAM, painted by the image's start.
  get stack() {
    const size = this.#mcu.flashView.getUint32(0x100, true) - 0x20000000;
    const words = new Uint32Array(this.#mcu.sram.buffer, 0, size / 4);
    return { used: size - 4 * words.findIndex((word) => word !== RAM_PAINT), size };
  }

  // Runs, or goes on running: to be called after anything was done to the machine from outside.
  run() {
    clearTimeout(this.#timer);
    clearImmediate(this.#timer);
    this.#timer = setImmediate(() => this.#slice());
  }

  #slice() {
    const { core, clock } = this.#mcu;
    const begin = performance.now();
    while (!this.#cpu.stopped) {
      const now = performance.now();
      let real = (now - this.#origin) * 1e6;
      if (real - clock.nanos > LAG) {
        this.#origin = now - clock.nanos / 1e6;
        real = clock.nanos;
      }
      if (core.waiting) {
        const alarm = clock.nextAlarm?.nanos ?? Infinity;
        if (alarm > real) {
          if (real > clock.nanos) clock.tick(real - clock.nanos);
          if (!core.waiting) continue;
          this.#timer = setTimeout(() => this.#slice(), Math.min((alarm - real) / 1e6, 1000));
          return;
        }
        clock.tick(alarm - clock.nanos);
        continue;
      }
      if (clock.nanos >= real + LEAD) {
        this.#timer = setTimeout(() => this.#slice(), (clock.nanos - real) / 1e6);
        return;
      }
      this.#cpu.run(Math.min(real + LEAD, clock.nanos + LEAD));
      if (now - begin > SLICE) {
        this.run();
        return;
      }
    }
    this.onStop(this.#cpu.stopped);
  }
}
