/**
 * The channel file: what lies where. Every offset of the bus is in this file.
 *
 * A channel has one lane for each level of priority, one behind the other in its file. A lane is a
 * control block of lines of 128 bytes (two cache lines, because processors fetch them in pairs),
 * then a ring. `spec/ring.md` says it for other languages.
 *
 *   bytes            what                               written by
 *   0      line 0    header                             the creator; read-only ever after
 *   128    line 1    tail                               producers, at each commit
 *   256    line 2    claims of several producers        the producer that has the lock
 *   384    line 3    floor                              producers, before they overwrite
 *   512    line 4    who sleeps: consumers              both, first lane only
 *   640    line 5    who sleeps: producers              both, first lane only
 *   768    line 6    number of losses recorded          whoever records one
 *   896    line 7    what the channel is                the creator, first lane only
 *          ...       free
 *   4096             the newest losses, 64 bytes each   whoever records one
 *   8192             one block a producer, then one a consumer: 1536 bytes each, its own
 *          ...       free up to a page of 4096 bytes
 *          ...       the ring, a power of two
 *
 * Positions count units of 8 bytes since the creation of the channel, in 32-bit words that wrap.
 * A position's place in the ring is its low bits. Distances are differences taken modulo 2^32, so
 * a ring may have up to 2^30 units (8 GiB).
 *
 * A record begins on a unit and is whole: it never wraps. Where the rest of the ring is too short
 * for it, a skipped record fills that rest; a skipped record alone may reach around the end.
 *
 *   byte 0            4             8              16
 *   | descriptor i32  | extension   | sequence f64 | body, filled up to a unit   |
 *
 *   descriptor   31 30 | 29 .. 24 | 23 .. 0
 *                 0  0 | producer | bytes of the body      a message
 *                 0  1 | producer | bytes of the body      a message with an extension
 *                 1  1 | producer | bytes of the body      claimed, not yet committed
 *                 1  0 | 0 | units of the whole record     nothing: skip it
 *                 1  0 | 1 | units of the whole record     taken back: skip it, and its sequence
 *
 *   extension    bits 0..7 bytes of the topic; bit 8: stamped. Only where the descriptor says so.
 *   body         [ns when it was sent, f64] [topic, filled up to a unit] message
 *
 * The sequence is a whole number, counted from 1 since the creation. As a double it is exact up to
 * 2^53 and takes one store: between cores a message costs what its stores cost.
 *
 * A record is there once `tail` has passed it, and not before: whatever lies beyond the tail, old
 * payload or a half-written record, is never looked at by a consumer.
 */
import { assert } from "../errors.ts";

export const unitBytes = 8;
export const lineBytes = 128;
export const pageBytes = 4096;
export const consumersMax = 64;
export const producersMax = 64;
export const prioritiesMax = 8;

const wordBytes = 4;
const wordsOfLine = lineBytes / wordBytes;

/** "GAPLRING" as two little-endian words. */
export const magicLow = 0x4c504147;
export const magicHigh = 0x474e4952;
export const layoutVersion = 3;

/** Indices of 32-bit words in a lane. */
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
  producers: 12,
  lanes: 13,
  /** Which of the lanes this is. */
  lane: 14,
  /** Drawn when the file is made, the same in all its lanes: tells it from all other files. */
  identity: 15,
  end: wordsOfLine,
} as const;

export const tailWord = {
  /** Everything below is committed. */
  tail: wordsOfLine,
  /** Start of some committed record, at most one commit behind the tail: see `SoloClaims`. */
  anchor: wordsOfLine + 1,
} as const;

/** Of several producers; with one, only `sequence` is used. See `SharedClaims`. */
export const claimWord = {
  /** 0: free; else its low byte is the number of the party that has it, see `claim-lock.ts`. */
  lock: 2 * wordsOfLine,
  /** Everything below is claimed. */
  claimed: 2 * wordsOfLine + 1,
  /** Where the claim under way begins. */
  claiming: 2 * wordsOfLine + 2,
  /** Up to where records may reach. */
  limit: 2 * wordsOfLine + 3,
  /** Which producer may write, where one is the backup of another. */
  active: 2 * wordsOfLine + 4,
  /**
   * Units that may still be written by a producer that was fenced off while it lived, where they
   * begin in the ring, and which producer it is: nobody writes there until it knows or is dead.
   */
  quarantineUnits: 2 * wordsOfLine + 5,
  quarantinePlace: 2 * wordsOfLine + 6,
  quarantineProducer: 2 * wordsOfLine + 7,
  /** f64: newest sequence given out. */
  sequence: 2 * wordsOfLine + 8,
  /** f64: the same, before the claim under way. */
  sequenceBefore: 2 * wordsOfLine + 10,
} as const;

/** Everything below may be overwritten. A record begins there, or behind the newest one. */
export const floorWord = 3 * wordsOfLine;

/**
 * Two pairs of a flag and a count. Whoever is about to sleep reads the count, sets the flag, looks
 * once more, and then sleeps on the count. Whoever has news looks at the flag, clears it, and moves
 * the count before it wakes: news between the last look and the sleep is never slept through.
 */
export const sleepWord = {
  consumersAsleep: 4 * wordsOfLine,
  consumersWakes: 4 * wordsOfLine + 1,
  producersAsleep: 5 * wordsOfLine,
  producersWakes: 5 * wordsOfLine + 1,
} as const;

/** How many losses have been recorded; the newest `lossesKept` of them are still there. */
export const lossCountWord = 6 * wordsOfLine;

/**
 * What the header says only by its fingerprint, in words, so that the file alone tells whoever
 * looks at it from outside what it is. The names of producers and consumers are in their blocks.
 */
export const descriptionWord = {
  /** Numbers from 1, in the order of `channelTypes`; 0: not described. */
  type: 7 * wordsOfLine,
  /** The same of `backpressureModes`. */
  backpressure: 7 * wordsOfLine + 1,
  /** See `describedFlag`. */
  flags: 7 * wordsOfLine + 2,
} as const;

export const describedFlag = { hasBackup: 1, waitsForFailed: 2 } as const;

export const lossesKept = 64;
const lossBytes = 64;
/** Offsets of words within a recorded loss. */
export const lossOffset = {
  /** Number of the loss, from 1; 0 while it is being written. */
  number: 0,
  cause: 1,
  /** Producer or consumer, by its index. */
  party: 2,
  /** f64 each. */
  from: 4,
  to: 6,
  messages: 8,
  atNs: 10,
} as const;

export function lossWord(number: number): number {
  return (pageBytes + ((number - 1) & (lossesKept - 1)) * lossBytes) / wordBytes;
}

/** Offsets of words that the blocks of producers and consumers have in common. */
export const partyOffset = {
  /** Process that it is, see ownership.ts. */
  owner: 0,
  /** Milliseconds since boot when it last did something or had nothing to do; first, creation. */
  heartbeat: 4,
  /** Wishes about memory that its process did not get: bits in the order of `wishNames`. */
  unmet: 7,
  /** 48 bytes of its name, zero behind it. By the creator, first lane only. */
  name: 10 * wordsOfLine,
} as const;

export const nameBytesMax = 48;

/** Offsets of words within a producer's block; those from `messages` on are f64. */
export const producerOffset = {
  ...partyOffset,
  /** 1 once it has said that nothing will follow from it. */
  finished: 5,
  /** Start of its newest committed record. */
  newest: 6,
  messages: wordsOfLine,
  bytes: wordsOfLine + 2,
  dropped: wordsOfLine + 4,
  rejected: wordsOfLine + 6,
  /** How often it met the high-water mark. */
  pressured: wordsOfLine + 8,
  errors: wordsOfLine + 10,
  /** Histogram of the time from claim to commit, of stamped messages. */
  writeLatency: 2 * wordsOfLine,
} as const;

/** Offsets of words within a consumer's block; those from `sequence` on are f64. */
export const consumerOffset = {
  ...partyOffset,
  /** Everything below has been taken and may be overwritten. */
  position: 5,
  /** See `failed` and `joining`; the other bits count takeovers. */
  state: 6,
  /** Where the newest copy of a part of the ring began. Only the order of the store counts. */
  copied: 8,
  /** Newest sequence released, those lost before it included. */
  sequence: wordsOfLine,
  messages: wordsOfLine + 2,
  bytes: wordsOfLine + 4,
  lost: wordsOfLine + 6,
  filtered: wordsOfLine + 8,
  errors: wordsOfLine + 10,
  /** Newest sequence that has been counted as lost: it is not again where it comes again. */
  lostThrough: wordsOfLine + 12,
  /** Where it is above `sequence`: all from there up to it were taken back. See `Reader`. */
  withdrawnThrough: wordsOfLine + 14,
  /** Histograms of stamped messages: sent to handled, and the time in the handler. */
  endToEndLatency: 2 * wordsOfLine,
  readLatency: 2 * wordsOfLine + 128,
} as const;

/**
 * Low bits of a consumer's state word; without either, it holds what is behind its position.
 *
 *   failed    set by a producer: dead or silent for too long, the position holds it back no longer
 *   joining   set by a failed consumer on its way back: the position holds producers back, but may
 *             be one that they have passed. Whoever finds it in the block of a dead consumer joins
 *             anew instead of going on from there.
 */
export const failed = 1;
export const joining = 2;
export const stateStep = 4;

const partyBytes = 1536;
const partiesWord = (2 * pageBytes) / wordBytes;

export function producerWord(producer: number): number {
  return partiesWord + producer * (partyBytes / wordBytes);
}

export function consumerWord(producers: number, consumer: number): number {
  return producerWord(producers + consumer);
}

/** Bytes before the ring of a lane. */
export function controlBytesOf(producers: number, consumers: number): number {
  return Math.ceil((2 * pageBytes + (producers + consumers) * partyBytes) / pageBytes) * pageBytes;
}

export const recordHeaderUnits = 2;
export const recordHeaderBytes = recordHeaderUnits * unitBytes;

export const record = {
  /** Set, it is no message. */
  hidden: 1 << 31,
  /** Of a message: it has an extension. Of a hidden record: it is a claim, not yet settled. */
  marked: 1 << 30,
  producerShift: 24,
  producerMask: 0x3f,
  bodyMask: 0xff_ffff,
  /** Of a skipped record: a claim that was taken back by the producer that had made it. */
  withdrawn: 1 << 29,
  skipUnitsMask: 0x1fff_ffff,
} as const;

export const extension = {
  topicBytesMask: 0xff,
  stamped: 0x100,
  stampBytes: 8,
} as const;

export const topicBytesMax = 128;

/** Units of a record whose body has so many bytes. */
export function unitsOf(bodyBytes: number): number {
  return recordHeaderUnits + ((bodyBytes + 7) >>> 3);
}

/** Bytes of the longest record that a message of so many bytes can have. */
export function recordBytesOf(messageBytes: number): number {
  return unitsOf(extension.stampBytes + topicBytesMax + messageBytes) * unitBytes;
}

/** Units of the record that `descriptor` begins. */
export function unitsOfRecord(descriptor: number): number {
  return isSkipped(descriptor)
    ? descriptor & record.skipUnitsMask
    : unitsOf(descriptor & record.bodyMask);
}

export function isSkipped(descriptor: number): boolean {
  return descriptor >>> 30 === 2;
}

/** Of those that are skipped. */
export function isWithdrawn(descriptor: number): boolean {
  return descriptor >>> 29 === 5;
}

export function isOpenClaim(descriptor: number): boolean {
  return descriptor >>> 30 === 3;
}

export function producerOf(descriptor: number): number {
  return (descriptor >>> record.producerShift) & record.producerMask;
}

/** Bytes of a record between its header and its message, where it has an extension. */
export function extensionBytesOf(kind: number): number {
  const stampBytes = (kind & extension.stamped) === 0 ? 0 : extension.stampBytes;
  return stampBytes + unitBytes * (((kind & extension.topicBytesMask) + 7) >>> 3);
}

export const ringBytesLog2Min = 12;
export const ringBytesLog2Max = 33;
export const ringBytesMin = 2 ** ringBytesLog2Min;
export const ringBytesMax = 2 ** ringBytesLog2Max;

/** A record may take an eighth of the ring, so that a skipped rest never makes one unplaceable. */
export function messageBytesLimit(ringBytes: number): number {
  const bodyBytesMax = record.bodyMask - extension.stampBytes - topicBytesMax;
  return Math.min(ringBytes / 8 - recordHeaderBytes, bodyBytesMax);
}

assert(pageBytes + lossesKept * lossBytes <= 2 * pageBytes, "losses overlap the parties");
assert(headerWord.identity < headerWord.end, "the header does not fit its line");
assert(recordHeaderBytes % unitBytes === 0, "records would lose their alignment");
assert(ringBytesMax / unitBytes <= 2 ** 30, "positions could not tell full from empty");
assert(consumerOffset.readLatency + 128 <= partyOffset.name, "the name overlaps the histograms");
assert(
  partyOffset.name * wordBytes + nameBytesMax <= partyBytes,
  "the name does not fit the block of a party",
);
