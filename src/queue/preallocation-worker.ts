/**
 * The thread that makes the segments that publishers are going to need, and takes back those that
 * they have written.
 *
 * A segment is handed over as soon as it is mapped. Its pages are made ready afterwards, a part at
 * a time between requests, so that no publisher waits for the pages of another.
 */
import { isGaplessError } from "../errors.ts";
import { unmapMemory, type MappedMemory } from "../memory/mapping.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { prefault } from "../memory/wishes.ts";
import { pageBytes } from "./layout.ts";
import type { PreallocationReply, PreallocationRequest, SegmentWish } from "./preallocation.ts";
import { openSegment, reserveSegment, type Segment } from "./segment.ts";
import { serveSidecar } from "../sidecar/serve-sidecar.ts";
import { isAsPlanned } from "./supply.ts";

const partBytes = 2 * 1024 * 1024;

/** Memory whose pages are not all ready yet, by its address: where they are not. */
const unready = new Map<bigint, { start: number; readonly end: number }>();
let isTurning = false;

serveSidecar<PreallocationRequest, PreallocationReply | undefined>((request) => {
  if (request.kind === "start") return undefined;
  if (request.kind === "make") return make(request);
  if (request.kind === "ready") {
    makeReady(request.address, request.offset, request.end);
    return undefined;
  }
  // Before the memory goes: somebody else's may come to the same place.
  unready.delete(request.memory.address);
  unmapMemory(request.memory);
  return undefined;
});

function make(wish: SegmentWish): PreallocationReply {
  const { supply, number } = wish;
  const memory = isWanted(wish) ? obtain(wish) : undefined;
  if (memory !== undefined) makeReady(memory.address, 0, memory.bytes);
  return { supply, number, memory };
}

/** undefined where it cannot be: the publisher will see why when it tries itself. */
function obtain({ directory, number, plan }: SegmentWish): MappedMemory | undefined {
  let segment: Segment;
  try {
    // One that is there: whoever has made it may not have come to make its name durable.
    if (!reserveSegment(directory, number, plan)) syncDirectory(directory);
    segment = openSegment(directory, number, plan.identity, "write");
  } catch (error) {
    // A full disk, a directory that is gone, or a file there that is damaged.
    if (isGaplessError(error)) return undefined;
    throw error;
  }
  if (isAsPlanned(segment, plan)) return segment.mapping.handOver();
  segment.mapping.unmap();
  return undefined;
}

/** Whether the publisher has not gone past it by now. */
function isWanted({ number, wanted }: SegmentWish): boolean {
  return number >= Atomics.load(wanted, 0);
}

function makeReady(address: bigint, offset: number, end: number): void {
  unready.set(address, { start: offset - (offset % pageBytes), end });
  if (!isTurning) setImmediate(turn);
  isTurning = true;
}

function turn(): void {
  const [oldest] = unready;
  isTurning = oldest !== undefined;
  if (oldest === undefined) return;
  const [address, memory] = oldest;
  const bytes = Math.min(partBytes, memory.end - memory.start);
  const isDone = bytes <= 0 || !prefault(address + BigInt(memory.start), bytes);
  memory.start += bytes;
  if (isDone) unready.delete(address);
  setImmediate(turn);
}
