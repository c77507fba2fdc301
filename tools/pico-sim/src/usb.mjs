// The other end of the USB cable: a host that enumerates the device and drives its CDC-ACM serial port.
//
//   device ◀─ SETUP, OUT, IN ─ this host ◀─ open, close, bytes ─▶ whoever owns the terminal
//
// rp2040js takes an OUT buffer from the device before there is data for it, and does not address control lines to the
// interface; its handler for buffers is replaced. All of it happens in emulated time. (USB 2.0, chapter 9; CDC PSTN 1.2.)

const AVAILABLE = 1 << 10;
const STALL = 1 << 11;
const FULL = 1 << 15;
const LENGTH = 0x3ff;
const PULL_UP = 1 << 16;
const BUS_RESET = 1 << 19;
const PACKET = 64;
const CONTROL_BUFFER = 0x100;

// Nanoseconds: a transaction, the reset after attachment, the pause before the first request.
const TRANSACTION = 10_000;
const ATTACH = 5_000_000;
const RECOVERY = 2_000_000;

export class UsbHost {
  // Whoever owns the terminal sets these: bytes from the device; the device can be written to; it is ready; a fault.
  onData = () => {};
  onDrain = () => {};
  onReady = () => {};
  onFault = () => {};

  #mcu;
  #usb;
  #alarms;
  #attached = false;
  #life = null;
  #transfer = null;
  #in = 0;
  #out = 0;
  #wanted = false;
  #open = false;
  #held = false;
  #queue = [];
  #queued = 0;

  constructor(mcu) {
    this.#mcu = mcu;
    const usb = mcu.usbCtrl;
    this.#usb = usb;
    const alarm = (callback) => mcu.clock.createAlarm(callback);
    this.#alarms = Array.from({ length: 32 }, (_, i) => alarm(() => this.#transact(i >> 1, (i & 1) === 1)));
    const reset = alarm(() => {
      usb.sieStatus |= BUS_RESET;
      usb.sieStatusUpdated();
    });
    const begin = alarm(() => {
      this.#life = this.#live();
      this.#advance();
    });

    usb.DPRAMUpdated = (offset, value) => {
      if (offset < 0x80 || offset > 0xfc) return;
      const endpoint = (offset - 0x80) >> 3;
      if (value & STALL && endpoint === 0) this.#fail('refused');
      else if (value & AVAILABLE) this.#schedule(endpoint, (offset & 4) !== 0);
    };
    usb.onUSBEnabled = () => {};
    const write = usb.handleSieCtrlWrite;
    usb.handleSieCtrlWrite = (value) => {
      write.call(usb, value);
      const attached = (value & PULL_UP) !== 0;
      if (attached && !this.#attached) reset.schedule(ATTACH);
      this.#attached = attached;
    };
    usb.onResetReceived = () => begin.schedule(RECOVERY);
  }

  // Opens or closes the port: DTR follows.
  setOpen(open) {
    this.#wanted = open;
    if (!open) {
      this.#queue = [];
      this.#queued = 0;
      this.#held = false;
    }
    if (this.#life && !this.#transfer) this.#advance();
  }

  // Takes bytes for the device; `false` once there are many: `onDrain` tells when there are few again.
  write(bytes) {
    for (let at = 0; at < bytes.length; at += PACKET) this.#queue.push(bytes.subarray(at, at + PACKET));
    this.#queued += bytes.length;
    if (this.#out) this.#schedule(this.#out, true);
    return this.#queued < 4096;
  }

  // Stops or resumes reading from the device.
  setHeld(held) {
    this.#held = held;
    if (!held && this.#in) this.#schedule(this.#in, false);
  }

  // The host's side of one attachment; each `yield` is a control transfer, or a pause if there is none to make.
  *#live() {
    const get = (kind, index, length) => ({ type: 0x80, request: 6, value: (kind << 8) | index, index: 0, length });
    const device = yield get(1, 0, 18);
    yield { type: 0x00, request: 5, value: 7, index: 0 };
    const head = yield get(2, 0, 9);
    const configuration = yield get(2, 0, head.readUInt16LE(2));
    const names = [];
    for (const index of device.subarray(14, 17)) {
      const name = yield { ...get(3, index, 255), index: 0x0409 };
      names.push(name.subarray(2, name[0]).toString('utf16le'));
    }
    let communication = 0;
    let kind = 0;
    for (let at = 0; configuration[at]; at += configuration[at]) {
      const [, type, number, , , interfaceClass] = configuration.subarray(at);
      if (type === 4) {
        kind = interfaceClass;
        if (kind === 2) communication = number;
      } else if (type === 5 && kind === 10) {
        if (number & 0x80) this.#in = number & 15;
        else this.#out = number & 15;
      }
    }
    yield { type: 0x00, request: 9, value: 1, index: 0 };
    this.onReady({ vendor: device.readUInt16LE(8), product: device.readUInt16LE(10), names });

    const coding = Buffer.from([0x00, 0xc2, 0x01, 0x00, 0, 0, 8]); // 115200 baud, 8N1
    for (;;) {
      while (this.#open === this.#wanted) yield null;
      const open = this.#wanted;
      if (open) yield { type: 0x21, request: 0x20, value: 0, index: communication, data: coding };
      yield { type: 0x21, request: 0x22, value: open ? 3 : 0, index: communication };
      this.#open = open;
      if (open) {
        this.#schedule(this.#in, false);
        this.#schedule(this.#out, true);
      }
    }
  }

  #advance(result) {
    const { value: transfer } = this.#life.next(result);
    if (!transfer) return;
    const { type, request, value, index, length = 0, data = Buffer.alloc(0) } = transfer;
    const inward = (type & 0x80) !== 0;
    const size = inward ? length : data.length;
    // Phases: data, if there is any, then the status in the other direction.
    this.#transfer = { inward, size, data, got: Buffer.alloc(0), sent: 0, status: size === 0 };
    const setup = Buffer.alloc(8);
    setup.writeUInt8(type, 0);
    setup.writeUInt8(request, 1);
    setup.writeUInt16LE(value, 2);
    setup.writeUInt16LE(index, 4);
    setup.writeUInt16LE(size, 6);
    this.#usb.sendSetupPacket(setup);
  }

  #fail(why) {
    if (!this.#transfer) return;
    this.#transfer = null;
    this.#life = null;
    this.onFault(`the device ${why} a request of the host`);
  }

  #schedule(endpoint, out) {
    const alarm = this.#alarms[endpoint * 2 + (out ? 1 : 0)];
    if (!alarm.scheduled) alarm.schedule(TRANSACTION);
  }

  // One transaction, if the device has a buffer ready and the host has something to do with it.
  #transact(endpoint, out) {
    this.#alarms[endpoint * 2 + (out ? 1 : 0)].scheduled = false;
    const view = this.#mcu.usbDPRAMView;
    const control = 0x80 + endpoint * 8 + (out ? 4 : 0);
    const state = view.getUint32(control, true);
    if (!(state & AVAILABLE)) return;
    const buffer = endpoint ? this.#usb.getEndpointBufferOffset(endpoint, out) : CONTROL_BUFFER;
    if (out) {
      const bytes = endpoint ? this.#nextPacket(endpoint) : this.#nextControlPacket();
      if (!bytes) return;
      this.#mcu.usbDPRAM.set(bytes, buffer);
      view.setUint32(control, (state & ~(AVAILABLE | LENGTH)) | FULL | bytes.length, true);
      this.#usb.indicateBufferReady(endpoint, true);
      if (endpoint === 0) this.#handleControlSent(bytes.length);
      return;
    }
    if (!(endpoint ? this.#reads(endpoint) : this.#readsControl())) return;
    const bytes = Buffer.from(this.#mcu.usbDPRAM.slice(buffer, buffer + (state & LENGTH)));
    view.setUint32(control, state & ~(AVAILABLE | FULL), true);
    this.#usb.indicateBufferReady(endpoint, false);
    if (endpoint === 0) this.#handleControlData(bytes);
    else this.onData(bytes);
  }

  #reads(endpoint) {
    return endpoint === this.#in && this.#open && this.#wanted && !this.#held;
  }

  #nextPacket(endpoint) {
    if (endpoint !== this.#out || !this.#open) return null;
    const packet = this.#queue.shift();
    if (!packet) return null;
    this.#queued -= packet.length;
    if (this.#queued < 1024) this.onDrain();
    return packet;
  }

  #readsControl() {
    return this.#transfer && this.#transfer.inward !== this.#transfer.status;
  }

  #nextControlPacket() {
    const { inward, status, data, sent } = this.#transfer ?? { inward: true };
    if (inward) return status ? Buffer.alloc(0) : null;
    return status ? null : data.subarray(sent, sent + PACKET);
  }

  #handleControlData(bytes) {
    const transfer = this.#transfer;
    if (transfer.status) return this.#finish();
    transfer.got = Buffer.concat([transfer.got, bytes]);
    transfer.status = transfer.got.length >= transfer.size || bytes.length < PACKET;
    if (transfer.status) this.#schedule(0, true);
  }

  #handleControlSent(length) {
    const transfer = this.#transfer;
    if (transfer.status) return this.#finish();
    transfer.sent += length;
    transfer.status = transfer.sent >= transfer.size;
    if (transfer.status) this.#schedule(0, false);
  }

  #finish() {
    const { got } = this.#transfer;
    this.#transfer = null;
    this.#advance(got);
  }
}
