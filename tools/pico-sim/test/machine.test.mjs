// What the chip does at its edges, shown by programs of a few instructions in place of the second boot stage.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { TIMES } from '../src/flash.mjs';
import { Machine } from '../src/machine.mjs';
import { crc32 } from '../src/rom.mjs';

const SPIN = 0xe7fe;

// A boot stage of `code`, with `words` from byte 128.
function stage(code, words) {
  const bytes = Buffer.alloc(256);
  code.forEach((op, i) => bytes.writeUInt16LE(op, 2 * i));
  words.forEach((word, i) => bytes.writeUInt32LE(word >>> 0, 128 + 4 * i));
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 252)), 252);
  return bytes;
}

// LDR of word `i` into register `to`, as instruction `at`.
const load = (to, i, at) => 0x4800 | (to << 8) | ((128 + 4 * i - ((2 * at + 4) & ~3)) >> 2);

function start(t, bytes, options = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pico-sim-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const flash = path.join(folder, 'flash');
  const machine = () => new Machine({
    blocks: [{ at: 0, bytes }],
    flash,
    times: TIMES.none,
    entropy: '/dev/urandom',
    isPressed: () => false,
    ...options,
  });
  const stopped = (one) => new Promise((resolve) => {
    one.onStop = resolve;
    one.run();
  });
  return { machine, stopped, flash };
}

const store = (address, value) => stage([load(0, 0, 0), load(1, 1, 1), 0x6001, SPIN], [address, value]);

test('a chip resets itself by SYSRESETREQ and by its watchdog, forced or not fed', async (t) => {
  for (const [address, value] of [[0xe000ed0c, 0x05fa0004], [0x40058000, 0x80000000], [0x40058000, 0x40000000]]) {
    const { machine, stopped } = start(t, store(address, value));
    assert.equal(await stopped(machine()), 'reset');
  }
});

test('an access to what is not there is a hard fault', async (t) => {
  for (const address of [0x1ffffffc, 0x20042000, 0x20000002, 0x10000000]) {
    const { machine, stopped } = start(t, store(address, 1));
    assert.match(await stopped(machine()), /^hard fault/);
  }
});

test('an image whose boot stage is damaged does not start', (t) => {
  const bytes = store(0, 0);
  bytes[0] ^= 1;
  assert.throws(start(t, bytes).machine, /boot stage/);
});

// A boot stage that programs a page with zeros, then with something else, erases a sector and resets the chip.
function writer() {
  const code = [];
  const find = (word) => {
    code.push(0x2018, 0x8807, 0x2014, 0x8800); // r7 = rom_table_lookup, r0 = the table of functions
    code.push(load(1, word, code.length));
    code.push(0x47b8, 0x4606); // r6 = what r7 finds for r1
  };
  const call = (...words) => {
    words.forEach((word, i) => code.push(load(i, word, code.length)));
    code.push(0x47b0); // r6
  };
  const words = {
    program: 0x5052, erase: 0x4552, control: 0xe000ed0c, reset: 0x05fa0004,
    first: 0x100000, second: 0x101000, zeros: 0x3000, stage: 0x20041f00, page: 256, sector: 4096,
  };
  const word = (name) => Object.keys(words).indexOf(name);
  find(word('program'));
  call(word('first'), word('zeros'), word('page'));
  call(word('first'), word('stage'), word('page'));
  find(word('erase'));
  call(word('second'), word('sector'));
  call(word('control'), word('reset'));
  code[code.length - 1] = 0x6001; // str r1, [r0]
  code.push(SPIN);
  return stage(code, Object.values(words));
}

// The flash file with something in the sector that `writer` erases.
function prepare({ machine, flash }) {
  machine(); // makes the file
  const before = fs.readFileSync(flash);
  before.fill(0x5a, 0x101000, 0x102000);
  fs.writeFileSync(flash, before);
}

test('programs clear bits only, erases set them, and both are in the file', async (t) => {
  const board = start(t, writer());
  prepare(board);
  const machine = board.machine();
  assert.equal(await board.stopped(machine), 'reset');

  const after = fs.readFileSync(board.flash);
  const every = (from, to, value) => after.subarray(from, to).every((byte) => byte === value);
  assert.ok(every(0x100000, 0x100100, 0), 'zeros stay');
  assert.ok(every(0x100100, 0x101000, 0xff), 'nothing else was programmed');
  assert.ok(every(0x101000, 0x102000, 0xff), 'the sector is erased');
  assert.ok(machine.worked > 0);
});

test('a cut tears the operation that was asked for and lets none follow', async (t) => {
  const torn = async (at, seed) => {
    const board = start(t, writer());
    prepare(board);
    const machine = board.machine();
    machine.cutAt(at, seed);
    assert.match(await board.stopped(machine), at === 3 ? /^the power .* erase at 101000/ : /^the power .* program at 100000/);
    return fs.readFileSync(board.flash).subarray(0x100000, 0x102000);
  };
  const between = (bytes, low, high) => bytes.every((byte) => (byte & low) === low && (byte & ~high) === 0);
  const partly = [];
  for (let seed = 1; seed <= 12; seed += 1) {
    const program = await torn(1, seed);
    assert.ok(program.subarray(4096).every((byte) => byte === 0x5a), 'the erase has not begun');
    if (program.subarray(0, 256).some((byte) => byte) && program.subarray(0, 256).some((byte) => byte !== 0xff)) partly.push(seed);
    assert.deepEqual(await torn(1, seed), program, 'the same seed, the same cells');

    const erase = await torn(3, seed);
    assert.ok(erase.subarray(0, 256).every((byte) => byte === 0), 'what came before is whole');
    assert.ok(between(erase.subarray(4096), 0x5a, 0xff), 'an erase sets bits only');
  }
  assert.ok(partly.length > 6, 'most cuts leave something between the old and the new');
});
