/**
 * Places in memory for files that come and go, many of one size: segments.
 *
 * A place outlives the file that is mapped there, and so does the view of it. V8 takes a view for
 * memory that it manages, and collects garbage in all of its heap when there are some 64 MB of new
 * ones: a view for each segment would stop its thread for milliseconds at each segment.
 *
 * A place costs nothing but addresses. Whoever looks at an empty one finds zeros; a view that was
 * kept for too long finds them, or what has come to its place.
 */
import { mmap, viewMemory } from "./libc.ts";

const protectionReadWrite = 0x1 | 0x2;
/** Private, anonymous, with no memory behind it until it is written, and in this place. */
const flagsEmpty = 0x02 | 0x20 | 0x4000 | 0x10;

/** Empty places by their bytes, and views of all places that were seen: both of this thread. */
const empty = new Map<number, bigint[]>();
const views = new Map<bigint, ArrayBuffer>();

/** An empty place of so many bytes, to map a file there; undefined where there is none. */
export function takePlace(bytes: number): bigint | undefined {
  return empty.get(bytes)?.pop();
}

/** Takes out what is mapped there. False where the kernel refuses: then it is still there. */
export function emptyPlace(address: bigint, bytes: number): boolean {
  if (mmap(address, bytes, protectionReadWrite, flagsEmpty, -1, 0) !== address) return false;
  const places = empty.get(bytes);
  if (places === undefined) empty.set(bytes, [address]);
  else places.push(address);
  return true;
}

/** The view of a place: one for all files that come there. */
export function viewPlace(address: bigint, bytes: number): ArrayBuffer {
  let view = views.get(address);
  if (view?.byteLength !== bytes) view = viewMemory(address, bytes);
  views.set(address, view);
  return view;
}
