/**
 * The time of a record, in two words: nanoseconds since 1970 do not fit into a double, and a
 * bigint would be allocated for each record.
 */
// The global of the same name is a getter, and costs a reading a third more.
import { performance } from "node:perf_hooks";

const wordRange = 2 ** 32;
const nsPerMs = 1_000_000;
/** Further apart than this, the system's clock was set, or the machine slept. */
const stepMs = 10;
/** So many readings are followed by a look at the system's clock. */
const readingsPerLook = 1024;

export class RecordClock {
  /** The last reading; as unsigned 32-bit words. */
  low = 0;
  high = 0;
  /** Nanoseconds since 1970 where `performance.now()` began. */
  private originLow = 0;
  private originHigh = 0;
  private originMs = 0;
  private readings = 0;

  /** Reads the clock. It follows the system's, but is never before the last reading. */
  read(): void {
    if (this.readings++ % readingsPerLook === 0) this.look();
    const sinceNs = performance.now() * nsPerMs;
    const high = Math.floor(sinceNs / wordRange);
    const low = this.originLow + Math.floor(sinceNs - high * wordRange);
    const carry = low >= wordRange ? 1 : 0;
    this.advance(this.originHigh + high + carry, low - carry * wordRange);
  }

  /** No later reading is before this. */
  advance(high: number, low: number): void {
    if (high < this.high || (high === this.high && low <= this.low)) return;
    this.high = high;
    this.low = low;
  }

  /** Takes up a step of the system's clock. */
  private look(): void {
    const originMs = Date.now() - performance.now();
    if (Math.abs(originMs - this.originMs) <= stepMs) return;
    this.originMs = this.readings === 1 ? performance.timeOrigin : originMs;
    const ns = BigInt(Math.round(this.originMs * 1000)) * 1000n;
    this.originLow = Number(ns & 0xffff_ffffn);
    this.originHigh = Number(ns >> 32n);
  }
}
