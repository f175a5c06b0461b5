/** Where what is too much ends: bisection over rows that say how many messages came before them. */
import { countOfChunk, expandChunk, extentBefore, unpackChunk } from "./chunk.ts";
import type { Excess } from "./cold-protocol.ts";

/** What of a stream there is. */
interface Stretch {
  /** Where the oldest message can be. */
  readonly oldestId: bigint;
  readonly lastId: bigint;
  /** Messages of the whole stream, trimmed ones too. */
  readonly appended: bigint;
}

/** A row, by the id of its last message. */
interface Row {
  readonly id: bigint;
  readonly value: Uint8Array;
}

/**
 * Before which id everything is too much: `count` messages or more have come behind it, or its
 * time is further back. By whole rows; the newest one stays. undefined where nothing is.
 *
 * @param rowFrom The first row whose id is at least the one given; it is there through `lastId`.
 */
export function findExcess(
  { oldestId, lastId, appended }: Stretch,
  { count, beforeNs }: Excess,
  rowFrom: (id: bigint) => Row,
): bigint | undefined {
  const staysFrom = count === undefined ? 0n : appended - BigInt(count);
  const isTooMuch = (row: Uint8Array): boolean => {
    if (extentBefore(row).messages + BigInt(countOfChunk(row)) <= staysFrom) return true;
    if (beforeNs === undefined) return false;
    const timeNs = unpackChunk(expandChunk(row)).at(-1)?.timestampNs ?? 0n;
    return timeNs > 0n && timeNs < beforeNs;
  };
  let cut = oldestId;
  let end = lastId;
  // Ordinals rise with the ids, and so do times.
  while (cut < end) {
    const middle = (cut + end) / 2n;
    const row = rowFrom(middle);
    if (row.id < lastId && isTooMuch(row.value)) cut = row.id + 1n;
    else end = middle;
  }
  return cut > oldestId ? cut : undefined;
}
