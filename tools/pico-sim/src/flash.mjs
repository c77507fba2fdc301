// The flash chip in a file: cells that programs only clear and erases set, and the serial interface to the rest of it.
//
// rp2040js's own interface writes nothing. Each erase and program is one write of the file before the firmware goes
// on: what it has seen done survives the death of this process. On request the power goes in the middle of one.

import crypto from 'node:crypto';
import fs from 'node:fs';

import { BasePeripheral } from 'rp2040js';

const SIZE = 2 << 20;
const SECTOR = 4096;
const PAGE = 256;
const SERIAL_NUMBER = 8;

// Milliseconds for a sector's erase and a page's program (W25Q16JV, "AC Electrical Characteristics": tSE, tPP).
export const TIMES = {
  none: { erase: 0, program: 0 },
  typical: { erase: 45, program: 0.4 },
  worst: { erase: 400, program: 3 },
};

export class Flash {
  #mcu;
  #times;
  #file;
  #cut = null;

  // Nanoseconds that erases and programs took so far.
  nanos = 0;
  // Called when the power goes in the middle of an operation.
  onCut = () => {};

  // `blocks` of the image are laid over what the file holds, as the boot loader would.
  constructor(mcu, path, times, blocks) {
    this.#mcu = mcu;
    this.#times = times;
    if (!fs.existsSync(path)) {
      const blank = Buffer.concat([Buffer.alloc(SIZE, 0xff), crypto.randomBytes(SERIAL_NUMBER)]);
      fs.writeFileSync(`${path}.new`, blank, { mode: 0o600 });
      fs.renameSync(`${path}.new`, path);
    }
    this.#file = fs.openSync(path, 'r+');
    const content = fs.readFileSync(this.#file);
    if (content.length !== SIZE + SERIAL_NUMBER) throw new Error(`${path} is not the flash of a Pico`);
    // The chip's own number stands behind its cells.
    this.serialNumber = content.subarray(SIZE);
    mcu.flash.fill(0xff);
    mcu.flash.set(content.subarray(0, SIZE));
    for (const { at, bytes } of blocks) {
      mcu.flash.set(bytes, at);
      if (!content.subarray(at, at + bytes.length).equals(bytes)) this.#save(at, bytes.length);
    }
  }

  // Lets the power go in the middle of the n-th operation from now, the erase of a sector or the program of a page: some of
  // the bits that it changes have changed. `seed` says how many and which.
  cutAt(count, seed) {
    this.#cut = { left: count, random: randomBits(seed) };
  }

  erase(at, length) {
    for (let sector = at; sector < at + length; sector += SECTOR) {
      this.#change('erase', sector, new Uint8Array(SECTOR).fill(0xff));
    }
  }

  program(at, bytes) {
    for (let done = 0; done < bytes.length; done += PAGE) {
      const page = bytes.subarray(done, done + PAGE);
      const old = this.#mcu.flash.subarray(at + done, at + done + page.length);
      this.#change('program', at + done, page.map((byte, i) => byte & old[i]));
    }
  }

  // One operation of the chip; once the power is gone there is none.
  #change(name, at, bytes) {
    if (this.#cut?.left === 0) return;
    let torn = false;
    if (this.#cut) {
      this.#cut.left -= 1;
      torn = this.#cut.left === 0;
    }
    const cells = this.#mcu.flash.subarray(at, at + bytes.length);
    if (torn) {
      // The longer the pulse lasted, the more cells have followed it.
      const mask = this.#cut.random.byMask();
      bytes.forEach((byte, i) => { cells[i] ^= (cells[i] ^ byte) & mask(); });
    } else {
      cells.set(bytes);
    }
    this.#save(at, bytes.length);
    if (torn) {
      this.onCut(`the power was cut in the ${name} at ${at.toString(16)}`);
      return;
    }
    const nanos = this.#times[name] * 1e6;
    this.nanos += nanos;
    this.#mcu.clock.tick(nanos);
  }

  #save(at, length) {
    if (at + length > SIZE) throw new Error(`flash access behind the end, at ${at}`);
    if (fs.writeSync(this.#file, this.#mcu.flash, at, length, at) !== length) throw new Error('the flash file is full');
  }
}

// Reproducible bits: xorshift32 (G. Marsaglia, "Xorshift RNGs"). `byMask` draws how probable ones are, in sixteenths, and
// gives a function that draws bytes of such bits.
function randomBits(seed) {
  let state = (seed ^ 0x9e3779b9) | 1;
  const draw = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  for (let i = 0; i < 8; i += 1) draw();
  return {
    byMask() {
      const often = draw() % 17;
      return () => {
        let byte = 0;
        for (let bit = 0; bit < 8; bit += 1) byte |= (draw() >>> 8) % 16 < often ? 1 << bit : 0;
        return byte;
      };
    },
  };
}

// Registers without a model of their own: they keep what is written.
export class Registers extends BasePeripheral {
  values = new Map();

  constructor(mcu, name, initial = {}) {
    super(mcu, name);
    for (const [offset, value] of Object.entries(initial)) this.values.set(Number(offset), value);
  }

  readUint32(offset) {
    return this.values.get(offset & 0xfff) ?? 0;
  }

  writeUint32(offset, value) {
    this.values.set(offset & 0xfff, value >>> 0);
  }
}

// XIP_CTRL (2.6.3.6): the cache is flushed at once and nothing streams.
export class XipControl extends Registers {
  readUint32(offset) {
    return offset === 0x08 ? 0b11 : 0;
  }

  writeUint32() {}
}

// The serial interface (4.10): commands of the second boot stage and for the serial number. Reads of the flash do not
// come here.
export class SerialInterface extends Registers {
  #serialNumber;
  #command = [];
  #received = [];

  constructor(mcu, serialNumber) {
    super(mcu, 'SSI');
    this.#serialNumber = serialNumber;
  }

  // What the chip answers at byte `i` of a command.
  #answer(command, i) {
    switch (command) {
      case 0x35: return 0x02; // status register 2: quad enabled
      case 0x4b: return i < 5 ? 0 : this.#serialNumber[i - 5];
      case 0x9f: return [0, 0xef, 0x40, 0x15][i] ?? 0;
      default: return 0; // status register 1: not busy
    }
  }

  #transferMode() {
    return (super.readUint32(0x00) >> 8) & 3;
  }

  // After its command bytes a reading transfer clocks in CTRLR1 + 1 frames.
  #complete() {
    if (this.#transferMode() === 3 && this.#command.length) {
      const sent = this.#command.length;
      const frames = super.readUint32(0x04) + 1;
      for (let i = 0; i < frames; i += 1) this.#received.push(this.#answer(this.#command[0], sent + i));
    }
    this.#command = [];
  }

  readUint32(offset) {
    switch (offset) {
      case 0x28: this.#complete(); return 0b0110 | (this.#received.length ? 0b1000 : 0); // SR
      case 0x60: return this.#received.shift() ?? 0; // DR0
      default: return super.readUint32(offset);
    }
  }

  writeUint32(offset, value) {
    if (offset === 0x60) {
      this.#command.push(value & 0xff);
      const i = this.#command.length - 1;
      if (this.#transferMode() === 0) this.#received.push(i ? this.#answer(this.#command[0], i) : 0);
      return;
    }
    if (offset === 0x08) { // SSIENR
      this.#command = [];
      this.#received = [];
    }
    super.writeUint32(offset, value);
  }
}

// The flash chip's pins (2.19.6.2). With its driver off, the select line shows the BOOTSEL button, which pulls it down.
export class FlashPins extends Registers {
  #isPressed;

  constructor(mcu, isPressed) {
    super(mcu, 'IO_QSPI');
    this.#isPressed = isPressed;
  }

  readUint32(offset) {
    if (offset !== 0x08) return super.readUint32(offset);
    const driverOff = ((super.readUint32(0x0c) >> 12) & 3) === 2;
    return driverOff && this.#isPressed() ? 0 : 1 << 17;
  }
}
