/**
 * Takes the lines of all threads, in the order of their time, and hands them on. Nothing is taken
 * before it was handed on: where that fails, the lines stay in the rings, and are tried again.
 */
import { bootNs, systemClock } from "../clock.ts";
import { LogFormat } from "./format.ts";
import {
  recordOffset,
  ringMemoryOf,
  threadOffset,
  threadState,
  type LogMemory,
  type LogRingMemory,
} from "./layout.ts";

/** Where lines go. */
export interface LogSink {
  /** How many bytes it takes at once; a single line may be longer. */
  readonly room: () => number;
  /** All of them or, where it throws, none. The memory is used again afterwards. */
  readonly write: (lines: Buffer) => void;
}

/** Of a thread, as far as one pass has come. */
interface Ring {
  readonly memory: LogRingMemory;
  /** As it was before `head` was read: nothing comes behind that where the thread had left. */
  state: number;
  head: number;
  tail: number;
  told: number;
  /** When its next line was logged; Infinity where there is none yet. */
  nextNs: number;
}

const passBytesMax = 256 * 1024;
/** The clocks of two threads differ by less, and so does one from itself. */
const clockToleranceNs = 1e6;

export class LogDrain {
  private readonly rings: Ring[] = [];
  /** Those that a thread has, or has left something in. */
  private used: Ring[] = [];
  private readonly mask: number;
  private readonly sink: LogSink;
  private readonly format = new LogFormat();
  private originNs = 0;

  constructor(memory: LogMemory, sink: LogSink) {
    this.mask = memory.ringBytes - 1;
    this.sink = sink;
    for (let thread = 0; thread < memory.threadsMax; thread++) {
      this.rings.push({
        memory: ringMemoryOf(memory, thread),
        state: threadState.free,
        head: 0,
        tail: 0,
        told: 0,
        nextNs: Infinity,
      });
    }
  }

  /**
   * Hands on what was logged before `untilNs` (since boot), up to some amount. False where there
   * was nothing.
   *
   * @throws what the sink throws; then nothing was taken.
   */
  drain(untilNs: number): boolean {
    this.followClock();
    this.used = this.rings.filter((ring) => this.look(ring));
    this.format.clear();
    this.collect(untilNs, Math.min(passBytesMax, this.sink.room()));
    const { bytes, length } = this.format;
    if (length > 0) this.sink.write(bytes.subarray(0, length));
    for (const ring of this.used) this.settle(ring);
    return length > 0;
  }

  private followClock(): void {
    const now = bootNs();
    const originNs = Number(systemClock.nowNs()) - now;
    // Small differences are those of measuring, and would put lines out of order.
    if (Math.abs(originNs - this.originNs) > clockToleranceNs) this.originNs = originNs;
    this.format.originNs = this.originNs;
  }

  /** Looks at what has come into a ring; false where nobody has it. */
  private look(ring: Ring): boolean {
    const { words, base } = ring.memory;
    ring.state = Atomics.load(words, base + threadOffset.state);
    if (ring.state === threadState.free) return false;
    ring.tail = Atomics.load(words, base + threadOffset.tail);
    ring.told = Atomics.load(words, base + threadOffset.told);
    // SYNC log-head: what lies before was written; pairs with LogRing.writeRecord.
    ring.head = Atomics.load(words, base + threadOffset.head);
    this.findNext(ring);
    return true;
  }

  private findNext(ring: Ring): void {
    const { view } = ring.memory;
    ring.nextNs = Infinity;
    if (ring.tail === ring.head) return;
    const length = view.getInt32((ring.tail & this.mask) + recordOffset.length, true);
    // The record that was too long for the rest of the ring was published with the skipping.
    if (length < 0) ring.tail = (ring.tail - length) | 0;
    ring.nextNs = view.getFloat64((ring.tail & this.mask) + recordOffset.time, true);
  }

  private collect(untilNs: number, bytesMax: number): void {
    for (;;) {
      const ring = this.oldest();
      if (ring === undefined || ring.nextNs >= untilNs) break;
      if (!this.take(ring, bytesMax)) return;
    }
    // Lines that found no room, and nothing came behind them yet.
    for (const ring of this.used) {
      if (ring.nextNs !== Infinity) continue;
      const { words, base } = ring.memory;
      const dropped = Atomics.load(words, base + threadOffset.dropped);
      if (!this.takeDropped(ring, dropped, bootNs(), bytesMax)) return;
    }
  }

  private oldest(): Ring | undefined {
    let oldest: Ring | undefined;
    for (const ring of this.used) {
      if (ring.nextNs < (oldest?.nextNs ?? Infinity)) oldest = ring;
    }
    return oldest;
  }

  /** Takes the next line of a ring; false where `bytesMax` does not allow for it. */
  private take(ring: Ring, bytesMax: number): boolean {
    const { memory } = ring;
    const at = ring.tail & this.mask;
    const dropped = memory.view.getInt32(at + recordOffset.dropped, true);
    if (!this.takeDropped(ring, dropped, ring.nextNs, bytesMax)) return false;
    const before = this.format.length;
    this.format.appendRecord(memory, at);
    if (this.isTooMuch(before, bytesMax)) return false;
    ring.tail = (ring.tail + memory.view.getInt32(at + recordOffset.length, true)) | 0;
    this.findNext(ring);
    return true;
  }

  private takeDropped(ring: Ring, dropped: number, timeNs: number, bytesMax: number): boolean {
    const count = (dropped - ring.told) >>> 0;
    if (count === 0) return true;
    const before = this.format.length;
    const { words, base } = ring.memory;
    const thread = Atomics.load(words, base + threadOffset.thread);
    this.format.appendDropped(count, timeNs, thread);
    if (this.isTooMuch(before, bytesMax)) return false;
    ring.told = dropped | 0;
    return true;
  }

  /** Takes the newest line back where it is too much; one line is never. */
  private isTooMuch(before: number, bytesMax: number): boolean {
    if (before === 0 || this.format.length <= bytesMax) return false;
    this.format.length = before;
    return true;
  }

  private settle({ memory, state, head, tail, told }: Ring): void {
    const { words, base } = memory;
    Atomics.store(words, base + threadOffset.told, told);
    // SYNC log-tail: what lies before may be overwritten; pairs with LogRing.encodeWithCare.
    Atomics.store(words, base + threadOffset.tail, tail);
    if (state !== threadState.left || tail !== head) return;
    // SYNC log-ring-free: pairs with takeLogRing.
    Atomics.store(words, base + threadOffset.state, threadState.free);
  }
}
