/**
 * Which of many sources is next: the one with the oldest message; of equally old ones that of the
 * source that was added first.
 *
 * A source that has a message has its time here, its *head*; one that has none is *missing*. With
 * one missing nobody knows whether it will not bring something older yet. So there is a horizon:
 * what is older than that is not held back for anybody. Time is a u64, by its two halves.
 *
 * The heads are the leaves of a binary tree, and each node names the older one of the two below: a
 * tournament. A new head has to climb only as far as it changes anything. Compared with looking
 * through all heads that costs the same at 4 sources, and a half to a sixth at 64.
 */
import { assert } from "../errors.ts";

/** No source has a message. */
export const NOTHING = -1;
/** There is a message, but an older one may come yet. */
export const HELD = -2;

const leavesMin = 2;

/** Halves of a u64. In an object: as arguments, those above 2^31 may be allocated. */
export interface HeadTime {
  readonly timestampHigh: number;
  readonly timestampLow: number;
}

export class Merge {
  private sources = 0;
  /** Upper half of each head's time, infinite where it is missing. All places of the tree count. */
  private highs = new Float64Array(leavesMin).fill(Infinity);
  private lows = new Float64Array(leavesMin);
  /** From 1: node n is above 2n and 2n + 1; the second half are the leaves, each by its number. */
  private tree = new Int32Array(2 * leavesMin);

  private present = 0;
  private horizonHigh = Infinity;
  private horizonLow = 0;
  /** Greatest time of all that were delivered. */
  private latestHigh = 0;
  private latestLow = 0;
  private lateCount = 0;

  constructor() {
    this.build();
  }

  /** How many were delivered after something younger. */
  get late(): number {
    return this.lateCount;
  }

  /** Adds a source behind the others, without a head. */
  add(): void {
    if (this.sources === this.highs.length) this.resize(this.sources * 2);
    this.sources++;
  }

  /** Removes a source with its head; those behind it move up by one. */
  remove(source: number): void {
    this.clearHead(source);
    this.highs.copyWithin(source, source + 1);
    this.lows.copyWithin(source, source + 1);
    this.sources--;
    this.highs[this.sources] = Infinity;
    this.lows[this.sources] = 0;
    this.build();
  }

  hasHead(source: number): boolean {
    return this.highs[source] !== Infinity;
  }

  /** Notes the time of the next message of a source. */
  setHead(source: number, time: HeadTime): void {
    if (this.highs[source] === Infinity) this.present++;
    this.highs[source] = time.timestampHigh;
    this.lows[source] = time.timestampLow;
    this.climb(source);
  }

  /** Notes that the source has no next message. */
  clearHead(source: number): void {
    if (this.highs[source] === Infinity) return;
    this.present--;
    this.highs[source] = Infinity;
    this.lows[source] = 0;
    this.climb(source);
  }

  /**
   * From now on nothing is held back that is older than this. At first nothing is held back at all.
   * Whoever moves it has read the clock *before* looking at the sources that are missing.
   */
  setHorizon(high: number, low: number): void {
    this.horizonHigh = high;
    this.horizonLow = low;
  }

  /** The source whose head is to be delivered next; NOTHING or HELD where none is. */
  next(): number {
    const first = this.first;
    // In range: the tree holds numbers of its leaves.
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    const high = this.highs[first]!;
    if (high === Infinity) return NOTHING;
    if (this.present === this.sources) return first;
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    const low = this.lows[first]!;
    if (isBefore(high, low, this.horizonHigh, this.horizonLow)) return first;
    // Late already: to wait on would make it later, and nothing righter.
    if (isBefore(high, low, this.latestHigh, this.latestLow)) return first;
    return HELD;
  }

  /** Nanoseconds between the horizon and what is held back: it may go when they have passed. */
  get heldForNs(): number {
    const { first } = this;
    const high = (this.highs[first] ?? 0) - this.horizonHigh;
    return high * 2 ** 32 + (this.lows[first] ?? 0) - this.horizonLow + 1;
  }

  /** Notes that the head of a source is delivered. It stays until the next one is set. */
  noteDelivered(source: number): void {
    const high = this.highs[source] ?? Infinity;
    const low = this.lows[source] ?? 0;
    assert(high !== Infinity, `source ${source} has nothing that was delivered`);
    if (isBefore(high, low, this.latestHigh, this.latestLow)) {
      this.lateCount++;
      return;
    }
    this.latestHigh = high;
    this.latestLow = low;
  }

  /** The number of the oldest head, or of any source where all are missing. */
  private get first(): number {
    return this.tree[1] ?? 0;
  }

  private climb(source: number): void {
    const { highs, lows, tree } = this;
    let winner = source;
    // In range: the tree has two places a leaf, and holds numbers of leaves.
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    let winnerHigh = highs[source]!;
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    let winnerLow = lows[source]!;
    let child = highs.length + source;
    while (child > 1) {
      const node = child >>> 1;
      // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
      const other = tree[child ^ 1]!;
      // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
      const otherHigh = highs[other]!;
      // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
      const otherLow = lows[other]!;
      const isOther =
        otherHigh === winnerHigh
          ? otherLow < winnerLow || (otherLow === winnerLow && other < winner)
          : otherHigh < winnerHigh;
      if (isOther) {
        // It was first here before, and is what it was: so is all above.
        if (tree[node] === other) return;
        winner = other;
        winnerHigh = otherHigh;
        winnerLow = otherLow;
      }
      tree[node] = winner;
      child = node;
    }
  }

  private resize(leaves: number): void {
    const { highs, lows } = this;
    this.highs = new Float64Array(leaves).fill(Infinity);
    this.lows = new Float64Array(leaves);
    this.tree = new Int32Array(2 * leaves);
    this.highs.set(highs);
    this.lows.set(lows);
    this.build();
  }

  private build(): void {
    const { highs, lows, tree } = this;
    const leaves = highs.length;
    for (let leaf = 0; leaf < leaves; leaf++) tree[leaves + leaf] = leaf;
    for (let node = leaves - 1; node > 0; node--) {
      const left = tree[2 * node] ?? 0;
      const right = tree[2 * node + 1] ?? 0;
      const isRight = isBefore(
        highs[right] ?? 0,
        lows[right] ?? 0,
        highs[left] ?? 0,
        lows[left] ?? 0,
      );
      tree[node] = isRight ? right : left;
    }
  }
}

function isBefore(high: number, low: number, otherHigh: number, otherLow: number): boolean {
  return high === otherHigh ? low < otherLow : high < otherHigh;
}
