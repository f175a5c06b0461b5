/**
 * The time of a record, in two words: nanoseconds since 1970 do not fit into a double, and a
 * bigint would be allocated for each record. So they are counted from a moment near by.
 */
// The global of the same name is a getter, and costs a reading a third more.
import { performance } from "node:perf_hooks";
import { renewClockWith } from "../memory/heartbeat.ts";

const wordRange = 2 ** 32;
const nsPerMs = 1_000_000;
/** Further apart than this, the system's clock was set, or the machine slept. */
const stepMs = 10;
/** So many readings are followed by a look at the system's clock. */
const readingsPerLook = 1024;

export class RecordClock {
  /** The last reading: two words, whose sign means nothing. */
  low = 0;
  high = 0;
  /** The same in nanoseconds since the base. */
  private lastNs = -Infinity;
  /** The high word of the moment that is counted from; its low word is 0. */
  private readonly baseHigh: number;
  /** Where `performance.now()` began. */
  private originNs: number;
  private originMs = performance.timeOrigin;
  private untilLook = 0;

  constructor() {
    this.baseHigh = Number(sinceEpochNs(this.originMs) >> 32n);
    this.originNs = this.nsOf(this.originMs);
  }

  /** Reads the clock. It follows the system's, but is never before the last reading. */
  read(): void {
    if (--this.untilLook < 0) this.look();
    const nowMs = performance.now();
    renewClockWith(nowMs);
    const ns = Math.floor(this.originNs + nowMs * nsPerMs);
    if (ns <= this.lastNs) return;
    this.lastNs = ns;
    const high = Math.floor(ns / wordRange);
    this.low = (ns - high * wordRange) | 0;
    this.high = (this.baseHigh + high) | 0;
  }

  /** No later reading is before this: two unsigned words. */
  advance(high: number, low: number): void {
    const ns = (high - this.baseHigh) * wordRange + low;
    if (ns <= this.lastNs) return;
    this.lastNs = ns;
    this.low = low | 0;
    this.high = high | 0;
  }

  /** Takes up a step of the system's clock. */
  private look(): void {
    this.untilLook = readingsPerLook;
    const originMs = Date.now() - performance.now();
    if (Math.abs(originMs - this.originMs) <= stepMs) return;
    this.originMs = originMs;
    this.originNs = this.nsOf(originMs);
  }

  private nsOf(originMs: number): number {
    return Number(sinceEpochNs(originMs) - (BigInt(this.baseHigh) << 32n));
  }
}

function sinceEpochNs(originMs: number): bigint {
  return BigInt(Math.round(originMs * 1000)) * 1000n;
}
