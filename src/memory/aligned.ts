/**
 * Where a file is mapped.
 *
 * A huge page of 2 MB backs only what begins at a multiple of 2 MB in the file and in memory both.
 * The kernel chooses such an address by itself only on file systems that were mounted for it, so
 * here a larger range is taken first, and the file mapped into it.
 */
import { mmap, munmap } from "./libc.ts";

const protectionRead = 0x1;
const protectionReadWrite = 0x1 | 0x2;
const protectionNone = 0;
const flagShared = 0x01;
const flagFixed = 0x10;
/** Private, anonymous, and with no memory behind it. */
const flagsReserve = 0x02 | 0x20 | 0x4000;
const smallPageBytes = 4096;

/** What a mapping is for: a store into one for reading kills the process (SIGSEGV). */
export type Access = "read" | "write";

/**
 * Maps the first `bytes` bytes of the open file, shared, at a multiple of `alignment` where they
 * are as many, and anywhere else.
 *
 * @returns undefined where the system refuses; the errno is that of the last call.
 */
export function mapAligned(
  fd: number,
  bytes: number,
  alignment: number,
  access: Access,
): bigint | undefined {
  const rangeBytes = bytes + alignment;
  const range =
    bytes < alignment ? null : checked(mmap(null, rangeBytes, protectionNone, flagsReserve, -1, 0));
  if (range === null || range === undefined) return mapAt(null, fd, bytes, access);

  const unit = BigInt(alignment);
  const wanted = ((range + unit - 1n) / unit) * unit;
  const address = mapAt(wanted, fd, bytes, access);
  if (address === undefined) {
    munmap(range, rangeBytes);
    return undefined;
  }
  const end = wanted + BigInt(Math.ceil(bytes / smallPageBytes) * smallPageBytes);
  if (wanted > range) munmap(range, Number(wanted - range));
  if (range + BigInt(rangeBytes) > end) munmap(end, Number(range + BigInt(rangeBytes) - end));
  return address;
}

/**
 * Maps the first `bytes` bytes of the open file, shared: in place of all that is mapped from
 * `address` on, or anywhere.
 */
export function mapAt(
  address: bigint | null,
  fd: number,
  bytes: number,
  access: Access,
): bigint | undefined {
  const protection = access === "read" ? protectionRead : protectionReadWrite;
  const flags = address === null ? flagShared : flagShared | flagFixed;
  return checked(mmap(address, bytes, protection, flags, fd, 0));
}

function checked(address: bigint | null): bigint | undefined {
  return address === null || address === 0xffff_ffff_ffff_ffffn || address === -1n
    ? undefined
    : address;
}
