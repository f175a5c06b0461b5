/**
 * The end of a ring that a hot thread logs into: no lock, no system call, nothing to wait for. A
 * line that finds no room is counted, and the next one that does says how many there were.
 */
import { threadId } from "node:worker_threads";
import { bootNs } from "../clock.ts";
import {
  fieldKind,
  fieldOffset,
  fieldsMax,
  logWord,
  nameBytesMax,
  recordAlignment,
  recordOffset,
  ringMemoryOf,
  threadOffset,
  threadState,
  threadWord,
  type LogMemory,
} from "./layout.ts";

/**
 * What a line may say beside its text. Names are those of the properties. Of what is none of these
 * only its kind is kept: log the message of an error, and the parts of an object by themselves.
 */
export type LogFields = Readonly<Record<string, string | number | bigint | boolean>>;

/** Up to here a loop over the characters is faster than a call that does it. */
const shortLength = 24;
const i64Min = -(2n ** 63n);
const u64Max = 2n ** 64n - 1n;
/** Nothing was encoded: there is no room. */
const NO_ROOM = -1;

/** Takes the ring of a thread for the one that calls; undefined where all are taken. */
export function takeLogRing(memory: LogMemory): LogRing | undefined {
  const { free, taken } = threadState;
  for (let thread = 0; thread < memory.threadsMax; thread++) {
    const state = threadWord(thread) + threadOffset.state;
    // SYNC log-ring-free: what the last one left is drained; pairs with LogDrain.
    if (Atomics.compareExchange(memory.words, state, free, taken) === free) {
      return new LogRing(memory, thread);
    }
  }
  return undefined;
}

/** Belongs to one thread. */
export class LogRing {
  private readonly words: Int32Array;
  private readonly base: number;
  private readonly bytes: Buffer;
  private readonly view: DataView;
  private readonly mask: number;
  private head: number;
  /** As it was seen last: it may be further by now. */
  private tail: number;
  private dropped: number;
  /** Where in the ring the record begins, and where it has to end. */
  private start = 0;
  private limit = 0;
  private isWriting = false;
  private hasLeft = false;

  /** Use `takeLogRing`. */
  constructor(memory: LogMemory, thread: number) {
    const { words, base, bytes, view } = ringMemoryOf(memory, thread);
    this.words = words;
    this.base = base;
    this.bytes = bytes;
    this.view = view;
    this.mask = memory.ringBytes - 1;
    Atomics.store(words, base + threadOffset.thread, threadId);
    // Of whoever had it before.
    this.head = Atomics.load(words, base + threadOffset.head);
    this.tail = Atomics.load(words, base + threadOffset.tail);
    this.dropped = Atomics.load(words, base + threadOffset.dropped);
  }

  /**
   * Writes a line, or counts it as dropped: where there is no room, and where a property of
   * `fields` is a function of its own that throws, or logs. Never throws.
   */
  write(level: number, name: Uint8Array, text: unknown, fields: LogFields | undefined): void {
    // A plain load: whether one line more is taken while another thread closes is all the same.
    if (this.hasLeft || this.words[logWord.closed] !== 0) return;
    if (this.isWriting) {
      this.drop();
      return;
    }
    this.isWriting = true;
    try {
      this.writeRecord(level, name, typeof text === "string" ? text : String(text), fields);
    } catch {
      this.drop();
    } finally {
      this.isWriting = false;
    }
  }

  /** Nothing more comes from this thread. */
  leave(): void {
    if (this.hasLeft) return;
    this.hasLeft = true;
    Atomics.store(this.words, this.base + threadOffset.state, threadState.left);
  }

  private writeRecord(
    level: number,
    name: Uint8Array,
    text: string,
    fields: LogFields | undefined,
  ): void {
    const timeNs = bootNs();
    this.start = this.head & this.mask;
    this.limit = this.limitFrom(this.start);
    let end = this.encode(name, text, fields);
    if (end === NO_ROOM) end = this.encodeWithCare(name, text, fields);
    if (end === NO_ROOM) {
      this.drop();
      return;
    }
    const { view, start } = this;
    const length = (end - start + (recordAlignment - 1)) & -recordAlignment;
    view.setInt32(start + recordOffset.length, length, true);
    view.setUint32(start + recordOffset.dropped, this.dropped, true);
    view.setFloat64(start + recordOffset.time, timeNs, true);
    view.setUint8(start + recordOffset.level, level);
    this.head = (this.head + length) | 0;
    // SYNC log-head: publishes the record; pairs with LogDrain.look.
    Atomics.store(this.words, this.base + threadOffset.head, this.head);
  }

  /**
   * Looks at how far the ring is drained by now, and skips its rest where the record fits only at
   * its beginning.
   */
  private encodeWithCare(name: Uint8Array, text: string, fields: LogFields | undefined): number {
    const { start, mask } = this;
    // SYNC log-tail: what lies before was read; pairs with LogDrain.settle.
    this.tail = Atomics.load(this.words, this.base + threadOffset.tail);
    this.limit = this.limitFrom(start);
    const end = this.encode(name, text, fields);
    const skipped = mask + 1 - start;
    const room = mask + 1 - ((this.head - this.tail) | 0);
    if (end !== NO_ROOM || start === 0 || room <= skipped) return end;
    this.start = 0;
    this.limit = room - skipped;
    const endAtStart = this.encode(name, text, fields);
    if (endAtStart === NO_ROOM) return NO_ROOM;
    this.view.setInt32(start + recordOffset.length, -skipped, true);
    this.head = (this.head + skipped) | 0;
    return endAtStart;
  }

  /** Up to where a record that begins at `start` can reach. */
  private limitFrom(start: number): number {
    const room = this.mask + 1 - ((this.head - this.tail) | 0);
    return Math.min(start + room, this.mask + 1);
  }

  private drop(): void {
    this.dropped = (this.dropped + 1) >>> 0;
    Atomics.store(this.words, this.base + threadOffset.dropped, this.dropped | 0);
  }

  /** Writes what differs from line to line in length, and returns where it ends. */
  private encode(name: Uint8Array, text: string, fields: LogFields | undefined): number {
    const { view, start } = this;
    let at = start + recordOffset.name;
    if (at + name.length > this.limit) return NO_ROOM;
    for (const byte of name) this.bytes[at++] = byte;
    const textEnd = this.putText(at, text);
    if (textEnd === NO_ROOM) return NO_ROOM;
    view.setUint16(start + recordOffset.nameBytes, name.length, true);
    view.setUint32(start + recordOffset.textBytes, textEnd - at, true);
    at = textEnd;
    let count = 0;
    // Not Object.keys or entries, which make an array a line.
    for (const key in fields) {
      const value = fields[key];
      const valueAt = this.putText(at + fieldOffset.name, key);
      if (valueAt === NO_ROOM) return NO_ROOM;
      const nameBytes = valueAt - at - fieldOffset.name;
      if (nameBytes > nameBytesMax || ++count > fieldsMax) return NO_ROOM;
      view.setUint16(at + fieldOffset.nameBytes, nameBytes, true);
      at = this.putValue(at, valueAt, value);
      if (at === NO_ROOM) return NO_ROOM;
    }
    view.setUint16(start + recordOffset.fields, count, true);
    return at;
  }

  private putValue(field: number, at: number, value: unknown): number {
    const { view } = this;
    if (at + Float64Array.BYTES_PER_ELEMENT > this.limit) return NO_ROOM;
    let kind: number = fieldKind.text;
    let end = at;
    if (typeof value === "number") {
      if (value === (value | 0)) {
        kind = fieldKind.i32;
        view.setInt32(at, value, true);
        end = at + Int32Array.BYTES_PER_ELEMENT;
      } else {
        kind = fieldKind.f64;
        view.setFloat64(at, value, true);
        end = at + Float64Array.BYTES_PER_ELEMENT;
      }
    } else if (typeof value === "boolean") {
      kind = value ? fieldKind.true : fieldKind.false;
    } else if (typeof value === "bigint" && value >= i64Min && value <= u64Max) {
      kind = value < 0n ? fieldKind.i64 : fieldKind.u64;
      if (value < 0n) view.setBigInt64(at, value, true);
      else view.setBigUint64(at, value, true);
      end = at + BigInt64Array.BYTES_PER_ELEMENT;
    } else if (value === undefined || value === null) {
      kind = fieldKind.nothing;
    } else {
      end = this.putText(at + Uint32Array.BYTES_PER_ELEMENT, describeValue(value));
      if (end === NO_ROOM) return NO_ROOM;
      view.setUint32(at, end - at - Uint32Array.BYTES_PER_ELEMENT, true);
    }
    view.setUint8(field + fieldOffset.kind, kind);
    return end;
  }

  /** Writes a text in UTF-8, and returns where it ends. */
  private putText(start: number, text: string): number {
    const { bytes } = this;
    const { length } = text;
    // A character takes three bytes at most; how many exactly is asked only where it matters.
    if (start + 3 * length > this.limit && start + Buffer.byteLength(text) > this.limit) {
      return NO_ROOM;
    }
    if (length > shortLength) return start + bytes.write(text, start);
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return start + bytes.write(text, start);
      bytes[start + index] = code;
    }
    return start + length;
  }
}

/** What no type lets through, and what is beyond 64 bits. */
function describeValue(value: unknown): string {
  return typeof value === "string" || typeof value === "bigint"
    ? value.toString()
    : `[${typeof value}]`;
}
