/**
 * A segment: one file of the log. spec/segment.md says the same for other languages.
 *
 *   00000000000000000001.log     named after the lowest id it can hold: prevId + 1, in 20 digits
 *
 *   0           8             12         16           24        28         32
 *   | magic u64 | version u32 | zero u32 | prevId u64 | crc u32 | zero u32 | ...
 *   32            36         40              56        64
 *   | durable u32 | zero u32 | boot 16 bytes | zero u64 | record | record | zeros to the end
 *
 *   magic     "GAPLESSQ"
 *   prevId    id of the last message of the segment before; 0 in the first
 *   crc       CRC-32 of the bytes 0 to 23
 *   durable   offset below which every record is known to be durable. It lags: a flush stores it
 *             after the records are durable, and the next flush takes it to the disk
 *   boot      the boot (/proc/sys/kernel/random/boot_id) in which the segment was last written.
 *             In the same boot the page cache has lost nothing, whatever process was killed
 *
 * A record, at a multiple of 8:
 *
 *   0          4         8                    8 + size
 *   | size u32 | crc u32 | message.ts encoded | zeros to a multiple of 8
 *
 *   size      of the encoded message. Stored last: a record without it is not there
 *   crc       CRC-32 of the encoded message, continued from the record's own offset as the initial
 *             value, so a record that got to another place, or is the payload of one, is none
 *
 * All little-endian. A size of zero, or no room for eight more bytes, ends the segment.
 */
import { assert } from "../errors.ts";
import { encodedBytes, encodeMessage, messageHeaderBytes } from "../message.ts";

export const segmentMagic = Uint8Array.from("GAPLESSQ", (letter) => letter.charCodeAt(0));
export const segmentVersion = 1;

export const headerBytes = 64;
export const versionOffset = 8;
export const prevIdOffset = 16;
export const headerCrcOffset = 24;
export const durableOffset = 32;
export const bootOffset = 40;
export const bootBytes = 16;

export const recordAlignment = 8;
export const recordHeaderBytes = 8;
export const recordCrcOffset = 4;
/** Where message.ts puts what a walk over records looks at, counted from the record. */
export const recordIdOffset = recordHeaderBytes;
export const recordPrevIdOffset = recordHeaderBytes + 8;
export const recordTimestampOffset = recordHeaderBytes + 16;
export const recordMessageSizeOffset = recordHeaderBytes + 24;
export const recordMessageZeroOffset = recordHeaderBytes + 28;

export const pageBytes = 4096;
/** Offsets stay within 32-bit integers. */
export const segmentBytesMax = 2 ** 30;

/** Space that a record takes whose message is `size` bytes when encoded. */
export function recordBytes(size: number): number {
  return (recordHeaderBytes + size + (recordAlignment - 1)) & -recordAlignment;
}

/** The size of a file that has room for `bytes` bytes of records. */
export function segmentBytesFor(bytes: number): number {
  return Math.ceil((headerBytes + bytes) / pageBytes) * pageBytes;
}

export function segmentFileName(prevId: bigint): string {
  return `${(prevId + 1n).toString().padStart(20, "0")}.log`;
}

/** The `prevId` that a name stands for; undefined for a file that is no segment. */
export function parseSegmentFileName(name: string): bigint | undefined {
  return /^\d{20}\.log$/.test(name) ? BigInt(name.slice(0, 20)) - 1n : undefined;
}

assert(headerBytes % recordAlignment === 0, "the first record is not aligned");
assert(headerCrcOffset === prevIdOffset + 8, "the header's CRC covers all that never changes");
assert(bootOffset + bootBytes <= headerBytes, "the header overlaps the first record");
assert(durableOffset % 4 === 0, "the durable mark is not one word");

const sample = { id: 4n, prevId: 3n, timestampNs: 2n, bytes: new Uint8Array(1) };
const sampleView = new DataView(new ArrayBuffer(recordBytes(encodedBytes(sample))));
encodeMessage(sample, new Uint8Array(sampleView.buffer), sampleView, recordHeaderBytes);
assert(
  sampleView.getBigUint64(recordIdOffset, true) === sample.id &&
    sampleView.getBigUint64(recordPrevIdOffset, true) === sample.prevId &&
    sampleView.getUint32(recordMessageSizeOffset, true) === sample.bytes.length &&
    recordMessageZeroOffset + 4 === recordHeaderBytes + messageHeaderBytes,
  "message.ts encodes otherwise than the layout of a record says",
);
