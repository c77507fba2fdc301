// A quicker interpreter for rp2040js's Cortex-M0+: the instructions that programs consist of run here, on local
// variables; all others, exceptions and peripherals stay with rp2040js, whose state is brought up to date first.
//
//   run(until):  interrupts taken ─▶ burst of instructions up to the next alarm ─▶ the clock follows ─▶ again
//
// It also mends the processor's defects: SEV does nothing in rp2040js, and a WFI with interrupts masked enters the
// handler. Architecture: ARM DDI 0419 (ARMv6-M); cycles: RP2040 data sheet, 2.4.

const FLASH = 0x10;
const RAM = 0x20000000;
export const NANOS_PER_CYCLE = 8;
// Cycles between two samples of a profile: a prime, so that no loop keeps step with it.
const SAMPLE = 997;
// The memory map beside the RAM (RP2040 data sheet, 2.2): ROM, flash, its control, peripherals, SIO, the processor's own.
const PLACES = [
  [0, 0x4000],
  [0x10000000, 0x14000030],
  [0x18000000, 0x18000100],
  [0x40000000, 0x50500000],
  [0xd0000000, 0xd0000180],
  [0xe0000000, 0xe0100000],
];

export class Cpu {
  #mcu;
  #burst;

  constructor(mcu) {
    this.#mcu = mcu;
    // Set to a reason, it ends `run` after the instruction.
    this.stopped = null;
    // Addresses and how often they were sampled, if somebody wants to know.
    this.samples = null;
    this.#burst = interpreter(mcu, this);
    const { core } = mcu;
    core.setInterrupt = (irq, on) => {
      const bit = 1 << irq;
      if (!on) {
        core.pendingInterrupts &= ~bit;
      } else if (!(core.pendingInterrupts & bit)) {
        core.pendingInterrupts |= bit;
        core.interruptsUpdated = true;
        if (core.enabledInterrupts & bit) core.waiting = false;
      }
    };
  }

  // Runs until the clock shows `until` nanoseconds, the processor sleeps, or it is stopped.
  run(until) {
    const { core, clock } = this.#mcu;
    while (!this.stopped && clock.nanos < until) {
      if (core.interruptsUpdated && core.checkForInterrupts()) core.waiting = false;
      if (core.waiting) return;
      const next = clock.nextAlarm ? Math.min(clock.nextAlarm.nanos, until) : until;
      const cycles = Math.max(1, Math.ceil((next - clock.nanos) / NANOS_PER_CYCLE));
      this.#burst(this.samples ? Math.min(cycles, SAMPLE) : cycles);
      this.samples?.set(core.PC, (this.samples.get(core.PC) ?? 0) + 1);
    }
  }
}

// The interpreter proper. One big function: the engine keeps its variables in registers.
function interpreter(mcu, cpu) {
  const { core, clock } = mcu;
  const r = new Int32Array(core.registers.buffer);
  const ram = mcu.sram;
  const size = ram.length;
  const ram16 = new Uint16Array(ram.buffer);
  const ram32 = new Int32Array(ram.buffer);
  const flash = mcu.flash;
  const flash16 = new Uint16Array(flash.buffer);
  const flash32 = new Int32Array(flash.buffer);
  const stock = core.executeInstruction;

  // Cycles that the clock has not seen yet.
  let cycles = 0;
  const settle = () => {
    const nanos = cycles * NANOS_PER_CYCLE;
    core.cycles += cycles;
    cycles = 0;
    if (nanos) clock.tick(nanos);
  };
  // A hard fault on the chip: what is not there, or not at a multiple of its width. rp2040js lets it pass.
  const isFault = (address, width) => {
    if (address & (width - 1)) return true;
    if (address - RAM < size && address >= RAM) return false;
    return !PLACES.some(([from, to]) => address >= from && address < to);
  };
  const fault = (address) => {
    cpu.stopped ??= `hard fault: access to ${address.toString(16)} near ${(core.PC >>> 0).toString(16)}`;
    return 0;
  };
  const slowLoad = (address, width) => {
    if (isFault(address, width)) return fault(address);
    cycles += 1 + core.cyclesIO(address);
    settle();
    if (width === 4) return mcu.readUint32(address) | 0;
    return width === 2 ? mcu.readUint16(address) : mcu.readUint8(address);
  };
  const slowStore = (address, value, width) => {
    if (isFault(address, width) || address < 0x14000000) return fault(address);
    cycles += 1 + core.cyclesIO(address, true);
    settle();
    if (width === 4) mcu.writeUint32(address, value >>> 0);
    else if (width === 2) mcu.writeUint16(address, value & 0xffff);
    else mcu.writeUint8(address, value & 0xff);
  };

  return function burst(budget) {
    let pc = r[15] & ~1;
    // N is the sign of `n`, Z is `z === 0`; C and V are 0 or 1.
    let n = core.N ? -1 : 0;
    let z = core.Z ? 0 : 1;
    let c = core.C ? 1 : 0;
    let v = core.V ? 1 : 0;
    // A peripheral was touched, or the state of the processor changed: alarms and interrupts are to be looked at.
    let leave = false;
    cycles = 0;

    const save = () => {
      r[15] = pc;
      core.N = n < 0;
      core.Z = z === 0;
      core.C = c === 1;
      core.V = v === 1;
    };
    const restore = () => {
      pc = r[15] & ~1;
      n = core.N ? -1 : 0;
      z = core.Z ? 0 : 1;
      c = core.C ? 1 : 0;
      v = core.V ? 1 : 0;
      leave = true;
    };
    const load32 = (at) => {
      const o = (at - RAM) >>> 0;
      if (o < size && !(o & 3)) { cycles += 2; return ram32[o >> 2]; }
      if (at >>> 24 === FLASH && !(at & 3)) { cycles += 2; return flash32[(at & 0xffffff) >> 2]; }
      leave = true;
      return slowLoad(at >>> 0, 4);
    };
    const load16 = (at) => {
      const o = (at - RAM) >>> 0;
      if (o < size && !(o & 1)) { cycles += 2; return ram16[o >> 1]; }
      if (at >>> 24 === FLASH && !(at & 1)) { cycles += 2; return flash16[(at & 0xffffff) >> 1]; }
      leave = true;
      return slowLoad(at >>> 0, 2);
    };
    const load8 = (at) => {
      const o = (at - RAM) >>> 0;
      if (o < size) { cycles += 2; return ram[o]; }
      if (at >>> 24 === FLASH) { cycles += 2; return flash[at & 0xffffff]; }
      leave = true;
      return slowLoad(at >>> 0, 1);
    };
    const store32 = (at, value) => {
      const o = (at - RAM) >>> 0;
      if (o < size && !(o & 3)) { cycles += 2; ram32[o >> 2] = value; return; }
      leave = true;
      slowStore(at >>> 0, value, 4);
    };
    const store16 = (at, value) => {
      const o = (at - RAM) >>> 0;
      if (o < size && !(o & 1)) { cycles += 2; ram16[o >> 1] = value; return; }
      leave = true;
      slowStore(at >>> 0, value, 2);
    };
    const store8 = (at, value) => {
      const o = (at - RAM) >>> 0;
      if (o < size) { cycles += 2; ram[o] = value; return; }
      leave = true;
      slowStore(at >>> 0, value, 1);
    };
    const add = (a, b, carry) => {
      const sum = (a + b + carry) | 0;
      c = (a >>> 0) + (b >>> 0) + carry > 0xffffffff ? 1 : 0;
      v = ((a ^ sum) & (b ^ sum)) >>> 31;
      n = z = sum;
      return sum;
    };
    const jump = (address) => {
      if (address >>> 28 === 15 && core.IPSR) {
        save();
        core.exceptionReturn(address & 0x0fffffff);
        restore();
      } else {
        pc = address & ~1;
      }
    };
    // What is rare, or not for this interpreter.
    const delegate = (address) => {
      pc = address;
      save();
      settle();
      const before = core.cycles;
      stock.call(core);
      cycles += core.cycles - before;
      core.cycles = before;
      restore();
    };
    // Data processing on two low registers (op 0x40 to 0x43).
    const compute = (op, at) => {
      const d = op & 7;
      const a = r[d];
      const b = r[(op >> 3) & 7];
      cycles += 1;
      switch ((op >> 6) & 15) {
        case 0: r[d] = n = z = a & b; break;
        case 1: r[d] = n = z = a ^ b; break;
        case 2: { // LSL
          const s = b & 0xff;
          if (s) c = s <= 32 ? (a >>> (32 - s)) & 1 : 0;
          r[d] = n = z = s < 32 ? a << s : 0;
          break;
        }
        case 3: { // LSR
          const s = b & 0xff;
          if (s) c = s <= 32 ? (a >>> (s - 1)) & 1 : 0;
          r[d] = n = z = s < 32 ? (a >>> s) | 0 : 0;
          break;
        }
        case 4: { // ASR
          const s = Math.min(b & 0xff, 32);
          if (s) c = (a >> (s - 1)) & 1;
          r[d] = n = z = a >> Math.min(s, 31);
          break;
        }
        case 5: r[d] = add(a, b, c); break;
        case 6: r[d] = add(a, ~b, c); break;
        case 7: { // ROR
          const s = b & 0xff;
          const t = s & 31;
          const result = t ? (a >>> t) | (a << (32 - t)) : a;
          if (s) c = result >>> 31;
          r[d] = n = z = result;
          break;
        }
        case 8: n = z = a & b; break;
        case 9: r[d] = add(0, ~b, 1); break;
        case 10: add(a, ~b, 1); break;
        case 11: add(a, b, 0); break;
        case 12: r[d] = n = z = a | b; break;
        case 13: r[d] = n = z = Math.imul(a, b); break;
        case 14: r[d] = n = z = a & ~b; break;
        default: r[d] = n = z = ~b;
      }
    };

    while (cycles < budget && !leave) {
      const at = pc;
      let op;
      if (at >>> 24 === FLASH) op = flash16[(at & 0xffffff) >> 1];
      else if (isFault(at, 2)) { fault(at); break; }
      else op = mcu.readUint16(at);
      pc = at + 2;
      switch (op >> 8) {
        case 0x00: case 0x01: case 0x02: case 0x03: case 0x04: case 0x05: case 0x06: case 0x07: { // LSLS
          const s = (op >> 6) & 31;
          const a = r[(op >> 3) & 7];
          if (s) c = (a >>> (32 - s)) & 1;
          r[op & 7] = n = z = a << s;
          cycles += 1;
          break;
        }
        case 0x08: case 0x09: case 0x0a: case 0x0b: case 0x0c: case 0x0d: case 0x0e: case 0x0f: { // LSRS
          const s = (op >> 6) & 31;
          const a = r[(op >> 3) & 7];
          c = (a >>> (s ? s - 1 : 31)) & 1;
          r[op & 7] = n = z = s ? (a >>> s) | 0 : 0;
          cycles += 1;
          break;
        }
        case 0x10: case 0x11: case 0x12: case 0x13: case 0x14: case 0x15: case 0x16: case 0x17: { // ASRS
          const s = (op >> 6) & 31;
          const a = r[(op >> 3) & 7];
          c = (a >>> (s ? s - 1 : 31)) & 1;
          r[op & 7] = n = z = a >> (s ? s : 31);
          cycles += 1;
          break;
        }
        case 0x18: case 0x19: r[op & 7] = add(r[(op >> 3) & 7], r[(op >> 6) & 7], 0); cycles += 1; break;
        case 0x1a: case 0x1b: r[op & 7] = add(r[(op >> 3) & 7], ~r[(op >> 6) & 7], 1); cycles += 1; break;
        case 0x1c: case 0x1d: r[op & 7] = add(r[(op >> 3) & 7], (op >> 6) & 7, 0); cycles += 1; break;
        case 0x1e: case 0x1f: r[op & 7] = add(r[(op >> 3) & 7], ~((op >> 6) & 7), 1); cycles += 1; break;
        case 0x20: case 0x21: case 0x22: case 0x23: case 0x24: case 0x25: case 0x26: case 0x27: // MOVS
          r[(op >> 8) & 7] = n = z = op & 0xff; cycles += 1; break;
        case 0x28: case 0x29: case 0x2a: case 0x2b: case 0x2c: case 0x2d: case 0x2e: case 0x2f: // CMP
          add(r[(op >> 8) & 7], ~(op & 0xff), 1); cycles += 1; break;
        case 0x30: case 0x31: case 0x32: case 0x33: case 0x34: case 0x35: case 0x36: case 0x37: { // ADDS
          const d = (op >> 8) & 7;
          r[d] = add(r[d], op & 0xff, 0); cycles += 1; break;
        }
        case 0x38: case 0x39: case 0x3a: case 0x3b: case 0x3c: case 0x3d: case 0x3e: case 0x3f: { // SUBS
          const d = (op >> 8) & 7;
          r[d] = add(r[d], ~(op & 0xff), 1); cycles += 1; break;
        }
        case 0x40: case 0x41: case 0x42: case 0x43: compute(op); break;
        case 0x44: case 0x45: case 0x46: { // ADD, CMP, MOV with high registers
          const d = ((op >> 4) & 8) | (op & 7);
          const m = (op >> 3) & 15;
          const b = m === 15 ? at + 4 : r[m];
          cycles += 1;
          if (op < 0x4500) {
            const sum = ((d === 15 ? at + 4 : r[d]) + b) | 0;
            if (d === 15) { pc = sum & ~1; cycles += 1; } else r[d] = d === 13 ? sum & ~3 : sum;
          } else if (op < 0x4600) {
            add(r[d], ~b, 1);
          } else if (d === 15) {
            pc = b & ~1; cycles += 1;
          } else {
            r[d] = d === 13 ? b & ~3 : b;
          }
          break;
        }
        case 0x47: { // BX, BLX
          const target = r[(op >> 3) & 15];
          cycles += 2;
          if (op & 0x80) { r[14] = pc | 1; pc = target & ~1; } else jump(target);
          break;
        }
        case 0x48: case 0x49: case 0x4a: case 0x4b: case 0x4c: case 0x4d: case 0x4e: case 0x4f: // LDR literal
          r[(op >> 8) & 7] = load32(((at + 4) & ~3) + ((op & 0xff) << 2)); break;
        case 0x50: case 0x51: store32((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0, r[op & 7]); break;
        case 0x52: case 0x53: store16((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0, r[op & 7]); break;
        case 0x54: case 0x55: store8((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0, r[op & 7]); break;
        case 0x56: case 0x57: r[op & 7] = (load8((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0) << 24) >> 24; break;
        case 0x58: case 0x59: r[op & 7] = load32((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0); break;
        case 0x5a: case 0x5b: r[op & 7] = load16((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0); break;
        case 0x5c: case 0x5d: r[op & 7] = load8((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0); break;
        case 0x5e: case 0x5f: r[op & 7] = (load16((r[(op >> 3) & 7] + r[(op >> 6) & 7]) | 0) << 16) >> 16; break;
        case 0x60: case 0x61: case 0x62: case 0x63: case 0x64: case 0x65: case 0x66: case 0x67: // STR
          store32((r[(op >> 3) & 7] + ((op >> 4) & 0x7c)) | 0, r[op & 7]); break;
        case 0x68: case 0x69: case 0x6a: case 0x6b: case 0x6c: case 0x6d: case 0x6e: case 0x6f: // LDR
          r[op & 7] = load32((r[(op >> 3) & 7] + ((op >> 4) & 0x7c)) | 0); break;
        case 0x70: case 0x71: case 0x72: case 0x73: case 0x74: case 0x75: case 0x76: case 0x77: // STRB
          store8((r[(op >> 3) & 7] + ((op >> 6) & 31)) | 0, r[op & 7]); break;
        case 0x78: case 0x79: case 0x7a: case 0x7b: case 0x7c: case 0x7d: case 0x7e: case 0x7f: // LDRB
          r[op & 7] = load8((r[(op >> 3) & 7] + ((op >> 6) & 31)) | 0); break;
        case 0x80: case 0x81: case 0x82: case 0x83: case 0x84: case 0x85: case 0x86: case 0x87: // STRH
          store16((r[(op >> 3) & 7] + ((op >> 5) & 0x3e)) | 0, r[op & 7]); break;
        case 0x88: case 0x89: case 0x8a: case 0x8b: case 0x8c: case 0x8d: case 0x8e: case 0x8f: // LDRH
          r[op & 7] = load16((r[(op >> 3) & 7] + ((op >> 5) & 0x3e)) | 0); break;
        case 0x90: case 0x91: case 0x92: case 0x93: case 0x94: case 0x95: case 0x96: case 0x97: // STR to the stack
          store32((r[13] + ((op & 0xff) << 2)) | 0, r[(op >> 8) & 7]); break;
        case 0x98: case 0x99: case 0x9a: case 0x9b: case 0x9c: case 0x9d: case 0x9e: case 0x9f: // LDR from the stack
          r[(op >> 8) & 7] = load32((r[13] + ((op & 0xff) << 2)) | 0); break;
        case 0xa0: case 0xa1: case 0xa2: case 0xa3: case 0xa4: case 0xa5: case 0xa6: case 0xa7: // ADR
          r[(op >> 8) & 7] = ((at + 4) & ~3) + ((op & 0xff) << 2); cycles += 1; break;
        case 0xa8: case 0xa9: case 0xaa: case 0xab: case 0xac: case 0xad: case 0xae: case 0xaf: // ADD from SP
          r[(op >> 8) & 7] = r[13] + ((op & 0xff) << 2); cycles += 1; break;
        case 0xb0: // ADD, SUB of SP
          r[13] += op & 0x80 ? -((op & 0x7f) << 2) : (op & 0x7f) << 2; cycles += 1; break;
        case 0xb2: { // SXTH, SXTB, UXTH, UXTB
          const a = r[(op >> 3) & 7];
          const how = (op >> 6) & 3;
          if (how < 2) r[op & 7] = how ? (a << 24) >> 24 : (a << 16) >> 16;
          else r[op & 7] = how === 3 ? a & 0xff : a & 0xffff;
          cycles += 1;
          break;
        }
        case 0xb4: case 0xb5: { // PUSH
          let count = op & 0x100 ? 1 : 0;
          for (let bits = op & 0xff; bits; bits &= bits - 1) count += 1;
          let to = (r[13] - 4 * count) | 0;
          const extra = cycles + 1 + count;
          r[13] = to;
          for (let i = 0; i < 8; i += 1) if (op & (1 << i)) { store32(to, r[i]); to = (to + 4) | 0; }
          if (op & 0x100) store32(to, r[14]);
          if (!leave) cycles = extra;
          break;
        }
        case 0xbc: case 0xbd: { // POP
          let from = r[13];
          const before = cycles;
          let count = 0;
          for (let i = 0; i < 8; i += 1) {
            if (op & (1 << i)) { r[i] = load32(from); from = (from + 4) | 0; count += 1; }
          }
          if (op & 0x100) {
            const target = load32(from);
            r[13] = (from + 4) | 0;
            if (!leave) cycles = before + count + 4;
            jump(target);
          } else {
            r[13] = from;
            if (!leave) cycles = before + count + 1;
          }
          break;
        }
        case 0xb6: // CPS
          core.PM = (op & 0x10) !== 0;
          cycles += 1;
          if (!core.PM) { core.interruptsUpdated = true; leave = true; }
          break;
        case 0xba: { // REV, REV16, REVSH
          const a = r[(op >> 3) & 7];
          const halves = ((a & 0xff00ff) << 8) | ((a >>> 8) & 0xff00ff);
          const how = (op >> 6) & 3;
          if (how === 0) r[op & 7] = (halves << 16) | (halves >>> 16);
          else r[op & 7] = how === 1 ? halves : (halves << 16) >> 16;
          cycles += 1;
          break;
        }
        case 0xbf:
          if (op === 0xbf40) { core.eventRegistered = true; cycles += 1; } // SEV
          else if (op === 0xbf00 || op === 0xbf10) cycles += 1;
          else delegate(at);
          break;
        case 0xc0: case 0xc1: case 0xc2: case 0xc3: case 0xc4: case 0xc5: case 0xc6: case 0xc7: { // STM
          const base = (op >> 8) & 7;
          let to = r[base];
          const before = cycles;
          let count = 0;
          for (let i = 0; i < 8; i += 1) {
            if (op & (1 << i)) { store32(to, r[i]); to = (to + 4) | 0; count += 1; }
          }
          r[base] = to;
          if (!leave) cycles = before + count + 1;
          break;
        }
        case 0xc8: case 0xc9: case 0xca: case 0xcb: case 0xcc: case 0xcd: case 0xce: case 0xcf: { // LDM
          const base = (op >> 8) & 7;
          let from = r[base];
          const before = cycles;
          let count = 0;
          for (let i = 0; i < 8; i += 1) {
            if (op & (1 << i)) { r[i] = load32(from); from = (from + 4) | 0; count += 1; }
          }
          if (!(op & (1 << base))) r[base] = from;
          if (!leave) cycles = before + count + 1;
          break;
        }
        case 0xd0: case 0xd1: case 0xd2: case 0xd3: case 0xd4: case 0xd5: case 0xd6:
        case 0xd7: case 0xd8: case 0xd9: case 0xda: case 0xdb: case 0xdc: case 0xdd: {
          let taken;
          switch ((op >> 9) & 7) {
            case 0: taken = z === 0; break;
            case 1: taken = c === 1; break;
            case 2: taken = n < 0; break;
            case 3: taken = v === 1; break;
            case 4: taken = c === 1 && z !== 0; break;
            case 5: taken = n < 0 === (v === 1); break;
            default: taken = n < 0 === (v === 1) && z !== 0;
          }
          if (taken !== ((op & 0x100) !== 0)) { pc = at + 4 + ((op << 24) >> 23); cycles += 2; } else cycles += 1;
          break;
        }
        case 0xe0: case 0xe1: case 0xe2: case 0xe3: case 0xe4: case 0xe5: case 0xe6: case 0xe7: // B
          pc = at + 4 + ((op << 21) >> 20); cycles += 2; break;
        case 0xf0: case 0xf1: case 0xf2: case 0xf3: case 0xf4: case 0xf5: case 0xf6: case 0xf7: {
          const low = at >>> 24 === FLASH ? flash16[((at + 2) & 0xffffff) >> 1] : mcu.readUint16(at + 2);
          if ((low & 0xd000) === 0xd000) { // BL
            const s = (op >> 10) & 1;
            const i1 = ~((low >> 13) ^ s) & 1;
            const i2 = ~((low >> 11) ^ s) & 1;
            r[14] = (at + 4) | 1;
            pc = at + 4 + ((s ? 0xff000000 : 0) | (i1 << 23) | (i2 << 22) | ((op & 0x3ff) << 12) | ((low & 0x7ff) << 1));
            cycles += 3;
          } else if (op === 0xf3bf) { // barriers
            pc = at + 4; cycles += 3;
          } else {
            delegate(at);
          }
          break;
        }
        default: delegate(at);
      }
      if (cpu.stopped) leave = true;
    }
    save();
    settle();
  };
}
