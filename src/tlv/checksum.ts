/**
 * CRC-32 (IEEE 802.3) in place: `zlib.crc32` wants a view of its own for each range.
 * Algorithm: slicing-by-8 (Kounavis and Berry, 2005): eight bytes a step, a table for each.
 */
import { checksumOffset, headerBytes } from "./layout.ts";

const polynomialReflected = 0xedb88320;
const tables = new Int32Array(8 * 256);

for (let index = 0; index < tables.length; index++) {
  // The first table is of single bytes; each other takes the one before it a zero byte further.
  let crc = index < 256 ? index : (tables[index - 256] ?? 0);
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? polynomialReflected : 0);
  tables[index] = crc;
}

/** CRC-32 of the bytes from `from` up to `to`, as an i32. `crc` is that of the bytes before. */
export function crc32(view: DataView, from: number, to: number, crc = 0): number {
  let remainder = ~crc;
  let at = from;
  // In range: a table's number times 256, and a byte.
  /* eslint-disable @typescript-eslint/no-non-null-assertion */
  for (; at + 8 <= to; at += 8) {
    const low = remainder ^ view.getInt32(at, true);
    const high = view.getInt32(at + 4, true);
    remainder =
      tables[0x700 | (low & 0xff)]! ^
      tables[0x600 | ((low >>> 8) & 0xff)]! ^
      tables[0x500 | ((low >>> 16) & 0xff)]! ^
      tables[0x400 | (low >>> 24)]! ^
      tables[0x300 | (high & 0xff)]! ^
      tables[0x200 | ((high >>> 8) & 0xff)]! ^
      tables[0x100 | ((high >>> 16) & 0xff)]! ^
      tables[high >>> 24]!;
  }
  for (; at < to; at++)
    remainder = (remainder >>> 8) ^ tables[(remainder ^ view.getUint8(at)) & 0xff]!;
  /* eslint-enable @typescript-eslint/no-non-null-assertion */
  return ~remainder;
}

/** The checksum of the message from `start` up to `end`: of all of it but the checksum's place. */
export function messageChecksum(view: DataView, start: number, end: number): number {
  return crc32(view, start + headerBytes, end, crc32(view, start, start + checksumOffset));
}
