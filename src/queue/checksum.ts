/** The sums that tell whether a record is what its writer has written. */
import type { ChecksumKind } from "./layout.ts";

/** Bytes seen two ways. */
interface Bytes {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}

/** The sum of the bytes from `from`, a multiple of 4, up to `to`, as an i32. */
export type Checksum = (memory: Bytes, from: number, to: number, seed: number) => number;

export const checksums: Readonly<Record<ChecksumKind, Checksum>> = {
  none: () => 0,
  fast: xxHash32,
  crc32c,
};

const prime1 = 0x9e3779b1 | 0;
const prime2 = 0x85ebca77 | 0;
const prime3 = 0xc2b2ae3d | 0;
const prime4 = 0x27d4eb2f | 0;
const prime5 = 0x165667b1 | 0;
const stripeWords = 4;

// In range: whoever asks for a sum has looked at the bounds.
/* eslint-disable @typescript-eslint/no-non-null-assertion */

/** XXH32 (Yann Collet, 2012): four sums side by side, so that their multiplications overlap. */
export function xxHash32({ bytes, words }: Bytes, from: number, to: number, seed: number): number {
  const wordEnd = to >>> 2;
  let at = from >>> 2;
  let hash: number;
  if (to - from >= stripeWords * 4) {
    let sum1 = (seed + prime1 + prime2) | 0;
    let sum2 = (seed + prime2) | 0;
    let sum3 = seed | 0;
    let sum4 = (seed - prime1) | 0;
    for (const last = wordEnd - stripeWords; at <= last; at += stripeWords) {
      sum1 = mixWord(sum1, words[at]!);
      sum2 = mixWord(sum2, words[at + 1]!);
      sum3 = mixWord(sum3, words[at + 2]!);
      sum4 = mixWord(sum4, words[at + 3]!);
    }
    hash = rotate(sum1, 1) + rotate(sum2, 7) + rotate(sum3, 12) + rotate(sum4, 18);
  } else {
    hash = seed + prime5;
  }
  hash = (hash + (to - from)) | 0;
  for (; at < wordEnd; at++) {
    hash = Math.imul(rotate((hash + Math.imul(words[at]!, prime3)) | 0, 17), prime4);
  }
  for (let byte = wordEnd * 4; byte < to; byte++) {
    hash = Math.imul(rotate((hash + Math.imul(bytes[byte]!, prime5)) | 0, 11), prime1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), prime2);
  hash = Math.imul(hash ^ (hash >>> 13), prime3);
  return hash ^ (hash >>> 16);
}

function mixWord(sum: number, word: number): number {
  return Math.imul(rotate((sum + Math.imul(word, prime2)) | 0, 13), prime1);
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

const castagnoliReflected = 0x82f63b78;
const tables = new Int32Array(4 * 256);

for (let index = 0; index < tables.length; index++) {
  // The first table is of single bytes; each other takes the one before it a zero byte further.
  let crc = index < 256 ? index : tables[index - 256]!;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? castagnoliReflected : 0);
  tables[index] = crc;
}

/** CRC-32C: slicing-by-4 (Kounavis and Berry, 2005), a table for each byte of a word. */
export function crc32c({ bytes, words }: Bytes, from: number, to: number, seed: number): number {
  const wordEnd = to >>> 2;
  let remainder = ~seed;
  for (let at = from >>> 2; at < wordEnd; at++) {
    const word = remainder ^ words[at]!;
    remainder =
      tables[0x300 | (word & 0xff)]! ^
      tables[0x200 | ((word >>> 8) & 0xff)]! ^
      tables[0x100 | ((word >>> 16) & 0xff)]! ^
      tables[word >>> 24]!;
  }
  for (let byte = wordEnd * 4; byte < to; byte++) {
    remainder = (remainder >>> 8) ^ tables[(remainder ^ bytes[byte]!) & 0xff]!;
  }
  return ~remainder;
}
/* eslint-enable @typescript-eslint/no-non-null-assertion */
