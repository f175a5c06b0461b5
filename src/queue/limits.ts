/** How much of a queue may be there: asked at a roll only, and only where there are limits. */
import fs from "node:fs";
import path from "node:path";
import { segmentFileName } from "./layout.ts";
import { listSegments } from "./segment.ts";

export interface Limits {
  readonly maxBytes: number;
  readonly maxSegments: number;
}

/** Whether the queue may have one more segment of `bytes` bytes behind the one numbered `head`. */
export function mayGrow(directory: string, head: number, bytes: number, limits: Limits): boolean {
  if (limits.maxBytes === Infinity && limits.maxSegments === Infinity) return true;
  const numbers = listSegments(directory).filter((number) => number <= head);
  if (numbers.length + 1 > limits.maxSegments) return false;
  let sum = bytes;
  for (const number of numbers) {
    const found = fs.statSync(path.join(directory, segmentFileName(number)), {
      throwIfNoEntry: false,
    });
    // Deleted in between.
    sum += found?.size ?? 0;
  }
  return sum <= limits.maxBytes;
}
