/**
 * The memory that the threads of a process log into, and what drains it takes from. It never
 * leaves the process, so nothing in it is checked.
 *
 *   bytes                  what                                  written by
 *   0        line 0        what is asked of who drains           anybody
 *   128      line 1        what who drains has done              who drains, and who waits for it
 *   256      2 lines each  of a thread: its own, then the other  the thread; who drains
 *            ...           a ring each
 *
 * Positions count bytes, in 32-bit words that wrap; the low bits are the place in the ring.
 * Distances are differences, so a ring may have up to 2^30 bytes. Records begin on multiples of 8
 * and are whole: where the rest of the ring is too short for one, a negative length skips it.
 *
 *   byte 0         4         8            16      17   18       20      24       26
 *   | length i32   | dropped | time f64   | level | -  | name   | text  | fields | -  |
 *
 *   length    of the record, everything included
 *   dropped   how many lines of this thread found no room before it, u32
 *   time      nanoseconds since boot
 *   name, text   their bytes in UTF-8, which follow at 28 in this order; fields: how many follow
 *
 *   field     | kind u8 | - | bytes of the name u16 | name | value |
 *   value     as `fieldKind` says; nothing is aligned
 */
import { assert } from "../errors.ts";

export const lineBytes = 128;
const wordsOfLine = lineBytes / Int32Array.BYTES_PER_ELEMENT;

/** In the order of their weight. */
export const logLevels = ["debug", "info", "warn", "error"] as const;

/** How much a line matters, least first. */
export type LogLevel = (typeof logLevels)[number];

/** Indices of 32-bit words at the beginning. */
export const logWord = {
  /** 1 once nothing more is taken. */
  closed: 0,
  /** Moved, and notified, by whoever wants something; the sidecar sleeps on it. */
  wishes: 1,
  /** How many flushes were asked for. */
  flushesAsked: 2,

  /** Who drains: see `drainer`. */
  drainer: wordsOfLine,
  /** Everything that was logged before so many flushes were asked for is written. */
  flushesDone: wordsOfLine + 1,
  /** How often lines could not be written, and the last time why: an index of `errorCodes`. */
  failures: wordsOfLine + 2,
  failureCode: wordsOfLine + 3,
  /** Lines handed to the thread that opened it, those that it has taken, and those it misses. */
  handed: wordsOfLine + 4,
  taken: wordsOfLine + 5,
  missed: wordsOfLine + 6,
} as const;

/** One at a time drains. */
export const drainer = {
  nobody: 0,
  sidecar: 1,
  /** A thread whose end is that of the logging: for good. */
  ending: 2,
} as const;

/** Words of a thread, counted from `threadWord`. */
export const threadOffset = {
  /** See `threadState`. */
  state: 0,
  /** Everything before it is written. */
  head: 1,
  /** Lines that found no room. */
  dropped: 2,
  /** Node's number of the thread. */
  thread: 3,

  /** Everything before it is drained. */
  tail: wordsOfLine,
  /** How many of `dropped` were told of. */
  told: wordsOfLine + 1,
} as const;

export const threadState = {
  free: 0,
  taken: 1,
  /** Nobody writes any more; free once it is drained. */
  left: 2,
} as const;

export const recordOffset = {
  length: 0,
  dropped: 4,
  time: 8,
  level: 16,
  nameBytes: 18,
  textBytes: 20,
  fields: 24,
  name: 28,
} as const;

export const recordAlignment = 8;

export const fieldOffset = { kind: 0, nameBytes: 2, name: 4 } as const;

export const fieldKind = {
  /** No value. */
  nothing: 0,
  false: 1,
  true: 2,
  i32: 3,
  f64: 4,
  i64: 5,
  u64: 6,
  /** u32 bytes, then those, in UTF-8. */
  text: 7,
} as const;

export const nameBytesMax = 2 ** 16 - 1;
export const fieldsMax = 2 ** 16 - 1;

/** What threads share; `share` hands it from one to the other. */
export interface LogMemory {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly ringBytes: number;
  readonly threadsMax: number;
}

/** The ring of one thread. */
export interface LogRingMemory {
  readonly words: Int32Array;
  /** Index of its first word. */
  readonly base: number;
  readonly bytes: Buffer<SharedArrayBuffer>;
  readonly view: DataView<SharedArrayBuffer>;
}

/** What is not touched takes no memory: the rings of threads that never come cost nothing. */
export function makeLogMemory(threadsMax: number, ringBytes: number): LogMemory {
  assert(Number.isInteger(Math.log2(ringBytes)), "places in a ring are the low bits");
  const buffer = new SharedArrayBuffer(ringStart(threadsMax) + threadsMax * ringBytes);
  return openLogMemory(buffer, threadsMax, ringBytes);
}

export function openLogMemory(
  buffer: SharedArrayBuffer,
  threadsMax: number,
  ringBytes: number,
): LogMemory {
  const words = new Int32Array(buffer, 0, ringStart(threadsMax) / Int32Array.BYTES_PER_ELEMENT);
  return { buffer, words, threadsMax, ringBytes };
}

export function ringMemoryOf(memory: LogMemory, thread: number): LogRingMemory {
  const { buffer, words, threadsMax, ringBytes } = memory;
  const start = ringStart(threadsMax) + thread * ringBytes;
  return {
    words,
    base: threadWord(thread),
    bytes: Buffer.from(buffer, start, ringBytes),
    view: new DataView(buffer, start, ringBytes),
  };
}

/** Index of the first word of a thread. */
export function threadWord(thread: number): number {
  return (2 + 2 * thread) * wordsOfLine;
}

function ringStart(threadsMax: number): number {
  return (2 + 2 * threadsMax) * lineBytes;
}
