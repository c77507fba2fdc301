// A stand-in for the RP2040's boot ROM (data sheet, 2.8): its tables, and each function as a breakpoint that is
// answered here. Nothing of Raspberry Pi's ROM is in it.

const FUNCTIONS_AT = 0x14;
const LOOKUP_AT = 0x18;
const CODE_AT = 0x100;
const LOOKUP = 0xff;

export class BootRom {
  #mcu;
  #functions;

  constructor(mcu, flash) {
    this.#mcu = mcu;
    const argument = (i) => mcu.core.registers[i] >>> 0;
    const give = (value) => { mcu.core.registers[0] = value; };
    const bytes = (from, length) => Uint8Array.from({ length }, (_, i) => mcu.readUint8(from + i));
    const copy = () => bytes(argument(1), argument(2)).forEach((byte, i) => mcu.writeUint8(argument(0) + i, byte));
    const fill = () => { for (let i = 0; i < argument(2); i += 1) mcu.writeUint8(argument(0) + i, argument(1) & 0xff); };
    const nothing = () => {};
    // Two-letter codes of 2.8.3.1; only what firmware can meet.
    this.#functions = Object.entries({
      P3: () => give(argument(0).toString(2).replaceAll('0', '').length),
      R3: () => give(Number.parseInt([...argument(0).toString(2).padStart(32, '0')].reverse().join(''), 2)),
      L3: () => give(Math.clz32(argument(0))),
      T3: () => give(argument(0) ? 31 - Math.clz32(argument(0) & -argument(0)) : 32),
      MS: fill, S4: fill, MC: copy, C4: copy,
      IF: nothing, EX: nothing, FC: nothing, CX: nothing,
      RE: () => flash.erase(argument(0), argument(1)),
      RP: () => flash.program(argument(0), bytes(argument(1), argument(2))),
    });

    const rom = new DataView(new ArrayBuffer(16384));
    const stub = (at, code) => {
      rom.setUint16(at, 0xbe00 | code, true); // BKPT code
      rom.setUint16(at + 2, 0x4770, true); // BX LR
      return at | 1;
    };
    rom.setUint16(LOOKUP_AT, stub(CODE_AT - 4, LOOKUP), true);
    let table = CODE_AT + 4 * this.#functions.length;
    rom.setUint16(FUNCTIONS_AT, table, true);
    this.#functions.forEach(([name], i) => {
      rom.setUint16(table, name.charCodeAt(0) | (name.charCodeAt(1) << 8), true);
      rom.setUint16(table + 2, stub(CODE_AT + 4 * i, i), true);
      table += 4;
    });
    rom.setUint16(FUNCTIONS_AT + 2, table, true); // of data: empty, as is the rest
    mcu.bootrom.set(new Uint32Array(rom.buffer));
  }

  // Starts as the ROM does: the second stage from flash, if its checksum is right, runs from RAM.
  start() {
    const { core, flash, sram } = this.#mcu;
    const stage = flash.slice(0, 256);
    const sum = new DataView(stage.buffer).getUint32(252, true);
    if (crc32(stage.subarray(0, 252)) !== sum) throw new Error('the image has no valid second boot stage');
    sram.set(stage, sram.length - 256);
    core.SP = 0x20000000 + sram.length - 256;
    core.LR = 0;
    core.PC = 0x20000000 + sram.length - 256;
  }

  // Answers a breakpoint; `false` if it is not one of the ROM's.
  handleBreak(code) {
    const { core } = this.#mcu;
    if (core.PC >= 0x4000) return false;
    if (code !== LOOKUP) {
      this.#functions[code][1]();
      return true;
    }
    // rom_table_lookup(table, code)
    let at = core.registers[0];
    const wanted = core.registers[1] & 0xffff;
    while (this.#mcu.readUint16(at) && this.#mcu.readUint16(at) !== wanted) at += 4;
    core.registers[0] = this.#mcu.readUint16(at) ? this.#mcu.readUint16(at + 2) : 0;
    return true;
  }
}

// As the ROM computes it (2.8.1.3.1): polynomial 0x04c11db7, seed of ones, nothing reflected, nothing added.
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let i = 0; i < 8; i += 1) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  }
  return crc >>> 0;
}
