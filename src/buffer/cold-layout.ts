/**
 * What lies on disk behind a buffer.
 *
 *   DIRECTORY/rocksdb/   chunks of messages, and the trim mark
 *   DIRECTORY/mark       what was acknowledged
 *
 * RocksDB rows. Keys are u64 big-endian, so that they sort as numbers:
 *
 *   0                    -> trim mark: throughId u64 big-endian; absent before the first trim
 *   last id of a chunk   -> the chunk (chunk.ts)
 *
 * Ids begin above zero, so key 0 is free. Keyed by its last id, the chunk that holds an id (or,
 * where ids skip, the next one that exists) is the first row at or after that id:
 *
 *   key          8              20                    31
 *   chunk     [3 4 7 8]   [9 12 19 20]         [21 25 30 31]
 *   seek 5  ->  7 is here; seek 10 -> 12 is here; seek 20 -> 20 is here, the last of its chunk
 *
 * A chunk that a trim cuts through stays whole; what is below the mark is left out when read.
 *
 * The mark, 32 bytes, little-endian, overwritten in place after each synced write of RocksDB:
 *
 *   0            8            16                24          28          32
 *   | magic u64  | lastId u64 | trimmedId u64   | zero u32  | crc u32   |
 *
 * Why it exists: RocksDB opens a write-ahead log that is damaged, cut off or missing without a
 * word, and comes up with the messages before the damage. A mark that is ahead of what RocksDB
 * holds tells such a loss from the unacknowledged tail that a crash may cut off. The mark is
 * written after the rows are durable and is itself synced only when the buffer closes: it
 * outlives any killed process; power loss may set it back, never forward.
 */
import { crc32 } from "node:zlib";

export const rocksDirectory = "rocksdb";
export const markFile = "mark";
/** RocksDB's pointer to its newest manifest: where this file is, there was a database. */
export const currentFile = "CURRENT";

export const idMax = 0xffff_ffff_ffff_ffffn;
export const keyBytes = 8;
export const trimKey: Buffer = encodeId(0n);

export function encodeId(id: bigint): Buffer {
  const bytes = Buffer.alloc(keyBytes);
  bytes.writeBigUInt64BE(id);
  return bytes;
}

/** What has been acknowledged to a caller. */
export interface Mark {
  readonly lastId: bigint;
  readonly trimmedId: bigint;
}

export const markBytes = 32;

// "GPLSBUF" and the version of everything in this file.
const markMagic = 0x0146_5542_534c_5047n;
const offsetLastId = 8;
const offsetTrimmedId = 16;
const offsetZero = 24;
const offsetChecksum = 28;

export function encodeMark(mark: Mark): Buffer {
  const bytes = Buffer.alloc(markBytes);
  bytes.writeBigUInt64LE(markMagic, 0);
  bytes.writeBigUInt64LE(mark.lastId, offsetLastId);
  bytes.writeBigUInt64LE(mark.trimmedId, offsetTrimmedId);
  bytes.writeUInt32LE(0, offsetZero);
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
  };
}
