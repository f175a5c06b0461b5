/**
 * What lies on the disk. spec/segment.md says the same for other languages.
 *
 *   DIRECTORY/
 *     queue.control             who writes, how far it has come, who sleeps
 *     writer.lock               which process may write: memory/lock-file.ts
 *     0000000001.segment        records, the segments numbered from 1 without a hole
 *     0000000002.segment        perhaps only reserved: then its `begun` is 0, and nobody reads it
 *     readers/NAME.reader       how far a reader has come
 *     losses.jsonl              what a reader was never given
 *     removed/                  segments on their way out
 *     cleanup.lock              which process moves them there
 *     damaged/                  files as they were before they were mended
 *
 * All little-endian, all offsets in bytes. A segment:
 *
 *   0          header, four lines of 64 bytes, each written by itself
 *   256        sparse index: an entry of 24 bytes for each 64 KiB of records
 *   records    at a multiple of 64: record, record, ... zeros
 *
 * A record, at a multiple of 8:
 *
 *   0            4         8              16            24         28          32
 *   | length i32 | sum u32 | sequence u64 | time ns u64 | type u32 | epoch u32 | payload ...
 *
 *   length    32 + the bytes of the payload. Stored last, in place of a 0, by compare-and-swap:
 *             that completes the record, and can happen once. -1 instead of it ends the segment:
 *             whoever wants to write here afterwards fails. A segment that is full to the last
 *             byte has ended as well
 *   sum       of the bytes from 8 on, by the segment's kind of checksum, with the record's own
 *             offset as the seed: a record that got to another place is none
 *   sequence  1 for the first of a queue, then counting; below 2^53
 *   time      nanoseconds since 1970
 *   type      the application's
 *   epoch     counts the writers. Never less than that of the record before: bytes of an earlier
 *             writer that a crash left behind the end are no record
 */
import { assert } from "../errors.ts";

export const formatVersion = 2;

export const controlMagic = "GAPLESSC";
export const segmentMagic = "GAPLESSQ";
export const readerMagic = "GAPLESSR";

export const controlBytes = 4096;
export const readerBytes = 4096;

/** Offsets that the first line of all three kinds of files has in common. */
export const headerOffset = {
  magic: 0,
  version: 8,
  /** Random, the same in all files of a queue. */
  identity: 16,
  /** CRC-32 of the 60 bytes before it: of all that never changes. */
  crc: 60,
} as const;

/** The first line. */
export const headerBytes = headerOffset.crc + 4;

export const segmentOffset = {
  checksum: 12,
  number: 24,
  bytes: 28,
  recordsStart: 32,

  /** Written once, when the segment is begun. */
  firstSequence: 64,
  /** Greatest time of all records of the segments before it. */
  latestNs: 72,
  epoch: 80,
  /** CRC-32 of the 20 bytes before it. */
  begunCrc: 84,
  /** 1, stored last. */
  begun: 88,

  /** Written once, when the segment has ended. */
  lastSequence: 128,
  lastNs: 136,
  end: 144,
  /** CRC-32 of the 20 bytes before it. */
  sealedCrc: 148,
  /** 1, stored last. */
  sealed: 152,

  /**
   * Offset below which every record is known to be durable. It lags: a flush stores it after the
   * records are durable, and the next one takes it to the disk.
   */
  durable: 192,
  /** How many entries the index has. */
  indexed: 196,
} as const;

export const segmentHeaderBytes = 256;

/**
 * An entry of the index is of the first record that begins at or behind a multiple of 64 KiB,
 * counted from the first record, other than that one itself.
 */
export const indexStrideBytes = 64 * 1024;
export const indexEntryBytes = 24;
export const indexOffset = {
  /** Where the record begins. */
  record: 0,
  /** How many records of the segment come before it. */
  count: 4,
  /** Greatest time of all records of the queue before it. */
  latestNs: 8,
  /** CRC-32 of the 16 bytes before it. */
  crc: 16,
} as const;

export const recordOffset = {
  length: 0,
  sum: 4,
  sequence: 8,
  timestamp: 16,
  type: 24,
  epoch: 28,
} as const;

export const recordHeaderBytes = 32;
export const recordAlignment = 8;
/** Instead of a length: nothing more comes in this segment. */
export const endMark = -1;

/** The sum over a record by the number that the segment's header has for it. */
export const checksumKinds = ["none", "fast", "crc32c"] as const;

/**
 *   none    nothing is checked but the structure; after a power loss nothing is trusted that was
 *           not made durable
 *   fast    XXH32
 *   crc32c  CRC-32C (Castagnoli)
 */
export type ChecksumKind = (typeof checksumKinds)[number];

/** Offsets in the control file. Each line has one who writes it, but for the one of sleepers. */
export const controlOffset = {
  /** Of the writer: who it is, and when it last did something (ms since boot, i32). */
  epoch: 64,
  heartbeat: 68,
  pid: 72,
  /** One of `writerState`. */
  open: 76,
  startTicks: 80,
  boot: 88,
  /** The epoch and `epochSalt`, by exclusive or; 0 while it is stored, or where nobody has yet. */
  epochCheck: 104,

  /** How far the writer has come. A hint: a crash can leave it behind by one step. */
  segment: 128,
  end: 132,
  /** f64: the newest sequence. */
  sequence: 136,
  /** The three of them and `positionSalt`, by exclusive or. */
  positionCheck: 144,

  /** 1 where a reader sleeps, and what it sleeps on: a futex. */
  asleep: 192,
  wakes: 196,

  /** f64: the newest sequence that is durable, as far as readers were told. */
  durable: 256,
} as const;

/** What a writer says of itself; 0 once it has closed the queue, or before it has opened it. */
export const writerState = {
  open: 1,
  /** It takes over from a writer that may live, and has not put an end to what that one writes. */
  fencing: 2,
} as const;

/** So that the check of an epoch is never 0. */
export const epochSalt = 0x47_41_50_45;

/** So that a line of zeros is no position. */
export const positionSalt = 0x47_41_50_4c;

/** Offsets in a reader's file. */
export const readerOffset = {
  /** Two slots in turn: whatever is interrupted, one of them is whole. */
  slots: 64,
  slotBytes: 64,

  /** Of the process that reads. */
  pid: 192,
  heartbeat: 196,
  startTicks: 200,
  boot: 208,
  /** f64: the newest sequence that it was given, committed or not. */
  taken: 224,
  /** f64: when it was last seen, in milliseconds since 1970. */
  seenMs: 232,
  /** f64: it has been passed over through this sequence by retention. */
  passedOver: 240,
} as const;

/** Offsets in a slot of a reader's file. */
export const slotOffset = {
  /** f64: the newest sequence that is committed; what comes next is delivered next. */
  sequence: 0,
  /** Of the record with that sequence; 0 where it stands for none. */
  epoch: 8,
  /** Counts the commits; the greater one of the two that are whole is the newest. */
  generation: 12,
  /** CRC-32 of the 16 bytes before it. */
  crc: 16,
} as const;

export const pageBytes = 4096;
/** Offsets stay within positive 32-bit integers. */
export const segmentBytesMin = pageBytes;
export const segmentBytesMax = 2 ** 30;

/** Space that a record takes whose length word is `length`. */
export function spaceOf(length: number): number {
  return (length + (recordAlignment - 1)) & -recordAlignment;
}

/** Entries that the index of a segment of `bytes` bytes has room for. */
export function indexEntriesOf(bytes: number): number {
  return Math.ceil(bytes / indexStrideBytes);
}

/** Where the first record of a segment of `bytes` bytes begins. */
export function recordsStartOf(bytes: number): number {
  const end = segmentHeaderBytes + indexEntriesOf(bytes) * indexEntryBytes;
  return Math.ceil(end / 64) * 64;
}

/** Bytes of the largest payload that a segment of `bytes` bytes takes. */
export function payloadBytesMaxOf(bytes: number): number {
  return bytes - recordsStartOf(bytes) - recordHeaderBytes;
}

const numberDigits = 10;

export function segmentFileName(number: number): string {
  return `${String(number).padStart(numberDigits, "0")}.segment`;
}

/** The number that a name stands for; undefined for a file that is no segment. */
export function parseSegmentFileName(name: string): number | undefined {
  return /^\d{10}\.segment$/.test(name) ? Number(name.slice(0, numberDigits)) : undefined;
}

assert(headerBytes === segmentOffset.firstSequence, "the first line is 64 bytes");
assert(segmentOffset.begunCrc === segmentOffset.firstSequence + 20, "what the begun CRC covers");
assert(segmentOffset.sealedCrc === segmentOffset.lastSequence + 20, "what the sealed CRC covers");
assert(segmentOffset.indexed + 4 <= segmentHeaderBytes, "the header overlaps the index");
assert(indexOffset.crc + 4 <= indexEntryBytes, "entries of the index overlap");
assert(recordHeaderBytes % recordAlignment === 0, "a payload is aligned as its record is");
assert(readerOffset.slots + 2 * readerOffset.slotBytes <= readerOffset.pid, "slots overlap");
