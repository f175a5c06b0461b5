/**
 * The time of a record, in two words: nanoseconds since 1970 do not fit into a double, and a
 * bigint would be allocated for each record. So they are counted from a moment near by, the mark:
 * the high word is that of the mark, as long as the low one does not run over.
 */
// The global of the same name is a getter, and costs a reading a third more.
import { performance } from "node:perf_hooks";
import { renewClockWith } from "../memory/heartbeat.ts";

const wordRange = 2 ** 32;
const nsPerMs = 1_000_000;
/** Further apart than this, the system's clock was set, or the machine slept. */
const stepMs = 10;
/** A mark is good for so long: then the system's clock is looked at again. */
const markedMs = 10;

export class RecordClock {
  /** The last reading: two words, whose sign means nothing. */
  low = 0;
  high = 0;
  /** The mark as a reading of `performance.now()`, and its low word, unsigned. */
  private markMs = 0;
  private markLow = 0;
  /** Nanoseconds behind the mark through which only the low word changes; 0 without a mark. */
  private reachNs = 0;
  /** High words are counted from that of the moment in which this one was made. */
  private readonly baseHigh: number;
  /** Where `performance.now()` began. */
  private originNs: number;
  private originMs = performance.timeOrigin;

  constructor() {
    this.baseHigh = Number(sinceEpochNs(this.originMs) >> 32n);
    this.originNs = this.nsOf(this.originMs);
  }

  /** Reads the clock. It follows the system's, but is never before the last reading. */
  read(): void {
    const nowMs = performance.now();
    const behindNs = (nowMs - this.markMs) * nsPerMs;
    if (behindNs < this.reachNs) this.low = (this.markLow + behindNs) | 0;
    else this.mark(nowMs);
  }

  /** No later reading is before this: two unsigned words. */
  advance(high: number, low: number): void {
    if ((high - this.baseHigh) * wordRange + low <= this.lastNs) return;
    this.low = low | 0;
    this.high = high | 0;
    this.reachNs = 0;
  }

  private mark(nowMs: number): void {
    this.look(nowMs);
    renewClockWith(nowMs);
    const ns = Math.floor(this.originNs + nowMs * nsPerMs);
    this.reachNs = 0;
    if (ns <= this.lastNs) return;
    const high = Math.floor(ns / wordRange);
    this.markMs = nowMs;
    this.markLow = ns - high * wordRange;
    this.reachNs = Math.min(markedMs * nsPerMs, wordRange - this.markLow);
    this.low = this.markLow | 0;
    this.high = (this.baseHigh + high) | 0;
  }

  /** Takes up a step of the system's clock. */
  private look(nowMs: number): void {
    const originMs = Date.now() - nowMs;
    if (Math.abs(originMs - this.originMs) <= stepMs) return;
    this.originMs = originMs;
    this.originNs = this.nsOf(originMs);
  }

  /** The last reading, counted from the base. */
  private get lastNs(): number {
    return ((this.high >>> 0) - this.baseHigh) * wordRange + (this.low >>> 0);
  }

  private nsOf(originMs: number): number {
    return Number(sinceEpochNs(originMs) - (BigInt(this.baseHigh) << 32n));
  }
}

function sinceEpochNs(originMs: number): bigint {
  return BigInt(Math.round(originMs * 1000)) * 1000n;
}
