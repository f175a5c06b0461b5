/**
 * Where some of the records of a segment end: in memory only, one entry in 64 KiB, filled by
 * whoever walks past. A walk to any id then starts at most that far before it.
 */
import { assert } from "../errors.ts";

const strideBytes = 64 * 1024;

export interface Place {
  /** Where the record with the id `lastId` ends. */
  readonly offset: number;
  readonly lastId: bigint;
}

export class SparseIndex {
  readonly #ids: bigint[];
  readonly #places: Place[];
  /** Nothing before this offset is worth another entry. */
  #offsetNext: number;

  /** `start` is where the first record begins, with the id that it follows. */
  constructor(start: Place) {
    this.#ids = [start.lastId];
    this.#places = [start];
    this.#offsetNext = start.offset + strideBytes;
  }

  /** Tells of a place that a walk has come to. */
  note(place: Place): void {
    if (place.offset < this.#offsetNext) return;
    this.#ids.push(place.lastId);
    this.#places.push({ offset: place.offset, lastId: place.lastId });
    this.#offsetNext = place.offset + strideBytes;
  }

  /** The nearest known place from which a walk comes past the first id that is at least `id`. */
  before(id: bigint): Place {
    const place = this.#places[Math.max(countBelow(this.#ids, id) - 1, 0)];
    assert(place !== undefined, "an index without its first entry");
    return place;
  }
}

/** How many of the ascending `ids` are smaller than `id`. */
export function countBelow(ids: readonly bigint[], id: bigint): number {
  let low = 0;
  let high = ids.length;
  // Everything before `low` is smaller, nothing from `high` on is.
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ids[middle] ?? id) < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
