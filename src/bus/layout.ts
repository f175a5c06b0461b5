/**
 * The channel file: what lies where. Every offset of the bus is in this file.
 *
 * A channel is one file: a control block of lines of 128 bytes (two cache lines, because
 * processors fetch them in pairs), then the ring. Nobody writes a line of somebody else's, except
 * for the flags that put a sleeper to rest or wake it, and the mark that evicts a dead consumer.
 * `spec/ring.md` says it for other languages.
 *
 *   line    bytes        written by
 *   0       0..127       the creator, before the file has its name; read-only ever after
 *   1       128..255     the producer, at each commit
 *   2       256..383     the producer, when it comes, goes or says that nothing will follow
 *   3       384..511     both: the flags that say who sleeps
 *   4..7    512..1023    free
 *   8..71   1024..9215   one line a consumer, in the order of the configuration
 *           9216..16383  free
 *           16384..      the ring, a power of two
 *
 * Positions count units of 8 bytes since the creation of the channel, in 32-bit words that wrap.
 * A position's place in the ring is its low bits. Distances are differences taken modulo 2^32, so
 * a ring may have up to 2^30 units (8 GiB).
 *
 * A record begins on a unit and is whole: it never wraps. Where the rest of the ring is too short
 * for it, a padding record fills that rest.
 *
 *   byte 0        4            8              16
 *   | length i32  | not used   | sequence f64 | payload, filled up to a unit   |
 *   | -1          | anything up to the end of the ring                         |
 *
 * The sequence is a whole number, counted from 1 since the creation. As a double it is exact up to
 * 2^53 and takes one store: between cores a message costs what its stores cost.
 *
 * A record exists once `tail` has passed it, and not before: whatever lies beyond the tail, old
 * payload or a half-written record, is never looked at.
 */
import { assert } from "../errors.ts";

export const unitBytes = 8;
export const lineBytes = 128;
export const consumersMax = 64;
export const controlBytes = 16384;

const wordBytes = 4;
const wordsOfLine = lineBytes / wordBytes;

/** "GAPLRING" as two little-endian words. */
export const magicLow = 0x4c504147;
export const magicHigh = 0x474e4952;
export const layoutVersion = 1;

/** Indices of 32-bit words in the file. */
export const headerWord = {
  magicLow: 0,
  magicHigh: 1,
  version: 2,
  /** CRC-32 of the words of this line that follow, the unused ones (zero) included. */
  checksum: 3,
  /** Size of the ring as a power of two. */
  ringBytesLog2: 4,
  messageBytesMax: 5,
  consumers: 6,
  /** CRC-32 of the channel's configuration: both ends must have read the same. */
  fingerprint: 7,
  /** Four words: the boot that process start times count from. */
  bootId: 8,
  end: wordsOfLine,
} as const;

export const producerWord = {
  /** Everything below is committed. */
  tail: wordsOfLine,
  /** Start of some committed record, at most one commit behind the tail: see `Publisher.last`. */
  anchor: wordsOfLine + 1,
} as const;

export const ownershipWord = {
  /** Process of the producer, see ownership.ts. */
  producer: 2 * wordsOfLine,
  /** 1 once the producer has said that nothing will follow. */
  finished: 2 * wordsOfLine + 4,
} as const;

/**
 * Two pairs of a flag and a count. Whoever is about to sleep reads the count, sets the flag, looks
 * once more, and then sleeps on the count. Whoever has news looks at the flag, and moves the count
 * before it wakes: news between the last look and the sleep is never slept through.
 */
export const sleepWord = {
  /** Not zero: a consumer sleeps, or did. The producer clears it when it wakes them. */
  consumersAsleep: 3 * wordsOfLine,
  consumersWakes: 3 * wordsOfLine + 1,
  /** Not zero: the producer sleeps for want of room. It alone clears it. */
  producerAsleep: 3 * wordsOfLine + 16,
  producerWakes: 3 * wordsOfLine + 17,
} as const;

/** Offsets of words within a consumer's line. */
export const consumerOffset = {
  /** Everything below has been taken and may be overwritten. */
  position: 0,
  /** See `evicted` and `joining`; the other bits count takeovers. */
  state: 1,
  /** Process of the consumer, see ownership.ts. */
  owner: 4,
} as const;

/**
 * Low bits of a consumer's state word; without either, it holds what is behind its position.
 *
 *   evicted   set by the producer: the position no longer holds it back
 *   joining   set by an evicted consumer on its way back: the position holds the producer back, but
 *             may be one that it has passed. Whoever finds it in the line of a dead consumer joins
 *             anew instead of going on from there.
 */
export const evicted = 1;
export const joining = 2;
export const stateStep = 4;

export function consumerWord(consumer: number): number {
  return (8 + consumer) * wordsOfLine;
}

export const recordHeaderUnits = 2;
export const recordHeaderBytes = recordHeaderUnits * unitBytes;
export const paddingLength = -1;

export const ringBytesMin = 4096;
export const ringBytesMax = 2 ** 33;

/** A record may take an eighth of the ring, so that padding never makes one unplaceable. */
export function messageBytesLimit(ringBytes: number): number {
  return ringBytes / 8 - recordHeaderBytes;
}

assert((8 + consumersMax) * lineBytes <= controlBytes, "the consumers' lines overlap the ring");
assert(headerWord.bootId + 4 <= headerWord.end, "the header does not fit its line");
assert(recordHeaderBytes % unitBytes === 0, "records would lose their alignment");
assert(ringBytesMax / unitBytes <= 2 ** 30, "positions could not tell full from empty");
