/** Wishes about memory that a party's process did not get, where others can see them. */
import { wishNames, type UnmetWish, type Wish } from "../memory/wishes.ts";
import type { Lane } from "./lane.ts";
import { partyOffset } from "./layout.ts";

/** Into the block at `base`, by its owner. The reasons stay with its process. */
export function noteUnmet({ words }: Lane, base: number, unmet: readonly UnmetWish[]): void {
  const bits = unmet.map(({ wish }) => 1 << wishNames.indexOf(wish));
  words[base + partyOffset.unmet] = bits.reduce((sum, bit) => sum | bit, 0);
}

export function readUnmet({ words }: Lane, base: number): Wish[] {
  const bits = words[base + partyOffset.unmet] ?? 0;
  return wishNames.filter((_wish, index) => (bits & (1 << index)) !== 0);
}
