/**
 * What lies on disk behind a buffer.
 *
 *   DBPATH/CFNAME/rocksdb/   chunks of messages, and the state
 *   DBPATH/CFNAME/mark       what was acknowledged
 *
 * RocksDB rows. Keys are u64 big-endian, so that they sort as numbers:
 *
 *   0                    -> the state (below); absent before the first trim
 *   last id of a chunk   -> the chunk (chunk.ts)
 *
 * Ids begin above zero, so key 0 is free. Keyed by its last id, the chunk that holds an id (or,
 * where ids skip, the next one that exists) is the first row at or after that id:
 *
 *   key          8              20                    31
 *   chunk     [3 4 7 8]   [9 12 19 20]         [21 25 30 31]
 *   seek 5  ->  7 is here; seek 10 -> 12 is here; seek 20 -> 20 is here, the last of its chunk
 *
 * A chunk that a trim cuts through stays whole; what is below the trim is left out when read.
 *
 * The state, 56 bytes, little-endian, written in one batch with what it speaks of:
 *
 *   0               8                      16                   24                 32
 *   | trimmedId u64 | trimmedMessages u64  | trimmedBytes u64   | logPosition u64  |
 *   | trimmedAtMs u64 | trimmedLast u64 | zero u64 |
 *
 * The mark, 48 bytes, little-endian, overwritten in place after each write of RocksDB:
 *
 *   0            8            16                24         40           44         48
 *   | magic u64  | lastId u64 | trimmedId u64   | boot     | isSynced   | crc u32  |
 *
 * Why it exists: RocksDB opens a write-ahead log that is damaged, cut off or missing without a
 * word, and comes up with the messages before the damage. A mark that is ahead of what RocksDB
 * holds tells such a loss from the unacknowledged tail that a crash may cut off. The mark is
 * written after the rows, and is itself synced only when the buffer closes: it outlives any killed
 * process; power loss may set it back, never forward. Where the rows were not synced, a power loss
 * may set them back as well: then the mark of an earlier boot says nothing of them.
 */
import { crc32 } from "node:zlib";
import type { Extent } from "./chunk.ts";

export const rocksDirectory = "rocksdb";
export const markFile = "mark";
/** RocksDB's pointer to its newest manifest: where this file is, there was a database. */
export const currentFile = "CURRENT";
/** Locked as long as the database is open. */
export const lockFile = "LOCK";

export const idMax = 0xffff_ffff_ffff_ffffn;
export const keyBytes = 8;
export const stateKey: Buffer = encodeId(0n);

export function encodeId(id: bigint): Buffer {
  const bytes = Buffer.alloc(keyBytes);
  bytes.writeBigUInt64BE(id);
  return bytes;
}

/** What is known of the stream besides its messages. */
export interface ColdState {
  /** Everything through it is gone, or was never here. */
  readonly trimmedId: bigint;
  /** What of the stream was trimmed. */
  readonly trimmed: Extent;
  /** Of the replicated log: what of it has been applied. */
  readonly logPosition: bigint;
  /** When messages were trimmed last, in milliseconds since 1970, and how many. */
  readonly trimmedAtMs: number;
  readonly trimmedLast: number;
}

export const stateAtFirst: ColdState = {
  trimmedId: 0n,
  trimmed: { messages: 0n, bytes: 0n },
  logPosition: 0n,
  trimmedAtMs: 0,
  trimmedLast: 0,
};

const stateBytes = 56;

export function encodeState(state: ColdState): Buffer {
  const bytes = Buffer.alloc(stateBytes);
  bytes.writeBigUInt64LE(state.trimmedId, 0);
  bytes.writeBigUInt64LE(state.trimmed.messages, 8);
  bytes.writeBigUInt64LE(state.trimmed.bytes, 16);
  bytes.writeBigUInt64LE(state.logPosition, 24);
  bytes.writeBigUInt64LE(BigInt(state.trimmedAtMs), 32);
  bytes.writeBigUInt64LE(BigInt(state.trimmedLast), 40);
  return bytes;
}

/** undefined for bytes that are no state of this version. */
export function decodeState(bytes: Buffer): ColdState | undefined {
  if (bytes.length !== stateBytes || bytes.readBigUInt64LE(48) !== 0n) return undefined;
  return {
    trimmedId: bytes.readBigUInt64LE(0),
    trimmed: { messages: bytes.readBigUInt64LE(8), bytes: bytes.readBigUInt64LE(16) },
    logPosition: bytes.readBigUInt64LE(24),
    trimmedAtMs: Number(bytes.readBigUInt64LE(32)),
    trimmedLast: Number(bytes.readBigUInt64LE(40)),
  };
}

/** What has been acknowledged to a caller. */
export interface Mark {
  readonly lastId: bigint;
  readonly trimmedId: bigint;
  /** Of the boot that it was written in: 32 hexadecimal digits. */
  readonly bootId: string;
  /** Whether the rows were on the device before it was written. */
  readonly isSynced: boolean;
}

export const markBytes = 48;

// "GPLSBUF" and the version of everything in this file.
const markMagic = 0x0246_5542_534c_5047n;
const offsetLastId = 8;
const offsetTrimmedId = 16;
const offsetBoot = 24;
const offsetIsSynced = 40;
const offsetChecksum = 44;

export function encodeMark(mark: Mark): Buffer {
  const bytes = Buffer.alloc(markBytes);
  bytes.writeBigUInt64LE(markMagic, 0);
  bytes.writeBigUInt64LE(mark.lastId, offsetLastId);
  bytes.writeBigUInt64LE(mark.trimmedId, offsetTrimmedId);
  bytes.write(mark.bootId, offsetBoot, "hex");
  bytes.writeUInt32LE(mark.isSynced ? 1 : 0, offsetIsSynced);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, offsetChecksum)), offsetChecksum);
  return bytes;
}

/** undefined for bytes that are no mark of this version. */
export function decodeMark(bytes: Buffer): Mark | undefined {
  if (bytes.length !== markBytes || bytes.readBigUInt64LE(0) !== markMagic) return undefined;
  const checksum = bytes.readUInt32LE(offsetChecksum);
  if (crc32(bytes.subarray(0, offsetChecksum)) !== checksum) return undefined;
  return {
    lastId: bytes.readBigUInt64LE(offsetLastId),
    trimmedId: bytes.readBigUInt64LE(offsetTrimmedId),
    bootId: bytes.toString("hex", offsetBoot, offsetIsSynced),
    isSynced: bytes.readUInt32LE(offsetIsSynced) === 1,
  };
}
