/** The greatest time of some records, in two unsigned words: a bigint for each costs too much. */
import { recordWord } from "./record.ts";
import type { Segment } from "./segment.ts";

export class TimeMax {
  private high: number;
  private low: number;

  constructor(ns: bigint) {
    this.high = Number(ns >> 32n);
    this.low = Number(ns & 0xffff_ffffn);
  }

  get ns(): bigint {
    return (BigInt(this.high) << 32n) | BigInt(this.low);
  }

  /** Takes that of the record at `offset` into account. */
  see({ words }: Segment, offset: number): void {
    const word = (offset >>> 2) + recordWord.timestamp;
    const high = (words[word + 1] ?? 0) >>> 0;
    const low = (words[word] ?? 0) >>> 0;
    if (high < this.high || (high === this.high && low <= this.low)) return;
    this.high = high;
    this.low = low;
  }
}
