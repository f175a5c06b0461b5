/**
 * What lies where in a TLV message. spec/tlv.md says the same for other languages.
 *
 *   0           4         5         6         7        8              16               24
 *   | magic u32 | domain  | version | source  | flags  | sequence u64 | time ns u64    |
 *   24               28             32
 *   | payload u32    | checksum u32 | TLV | TLV | ... to the end of the payload
 *
 * A TLV, and the form of one whose value is longer than 255 bytes:
 *
 *   | type u8 | length u8 | value |        | 255 | 0 | type u8 | length u16 | value |
 *
 * All little-endian, nothing aligned. `layouts` is the one table of the values: flyweights, sizes,
 * descriptions and the tests of the specification are made of it. Bytes between its fields are
 * reserved: written as zeros, not looked at.
 */

export const magic = 0xdeadbeef;
export const version = 1;

/** Of a message, its header included. */
export const messageBytesMax = 2 ** 20;
/** Of the header of a message. */
export const headerBytes = 32;

/** Opens a TLV of the extended form, so it is no type. */
export const extendedMark = 255;
export const shortHeaderBytes = 2;
export const extendedHeaderBytes = 5;
export const extendedTypeOffset = 2;
export const extendedLengthOffset = 3;
export const shortValueBytesMax = 255;
/** Of the value of a TLV. */
export const valueBytesMax = 65_535;

/** Bytes that a TLV takes whose value has `valueBytes`: what to claim, with `headerBytes`. */
export function tlvBytes(valueBytes: number): number {
  return valueBytes + (valueBytes > shortValueBytesMax ? extendedHeaderBytes : shortHeaderBytes);
}

/**
 * What a field holds. `time` is a u64 of nanoseconds since 1970; `rest` are the bytes from there
 * to the end of a value of bounded size.
 */
export type Kind = "u8" | "u16" | "u32" | "i32" | "u64" | "i64" | "time" | "bytes" | "rest";

/** A field: what it holds, and where in its value. */
export interface Field<K extends Kind = Kind> {
  readonly kind: K;
  readonly at: number;
  /** 0 for a rest, which may be empty. */
  readonly bytes: number;
}

/** Fields by name. */
export type Fields = Readonly<Record<string, Field>>;

/** The value of a type: its size, and its fields in the order in which they lie. */
export interface Layout<F extends Fields = Fields> {
  readonly type: number;
  readonly bytesMin: number;
  /** As `bytesMin` for a type of fixed size. */
  readonly bytesMax: number;
  readonly fields: F;
}

function field<K extends Kind>(kind: K, bytes: number): (at: number) => Field<K> {
  return (at) => ({ kind, at, bytes });
}

const u8 = field("u8", 1);
const u16 = field("u16", 2);
const u32 = field("u32", 4);
const i32 = field("i32", 4);
const u64 = field("u64", 8);
const i64 = field("i64", 8);
const time = field("time", 8);
const rest = field("rest", 0);
const bytes = (at: number, size: number): Field<"bytes"> => field("bytes", size)(at);

function fixed<F extends Fields>(type: number, size: number, fields: F): Layout<F> {
  return { type, bytesMin: size, bytesMax: size, fields };
}

function bounded<F extends Fields>(
  type: number,
  bytesMin: number,
  bytesMax: number,
  fields: F,
): Layout<F> {
  return { type, bytesMin, bytesMax, fields };
}

/** The header of a message, as if it were the value of a type. */
export const headerFields = {
  magic: u32(0),
  domain: u8(4),
  version: u8(5),
  source: u8(6),
  flags: u8(7),
  sequence: u64(8),
  timestampNs: time(16),
  payloadSize: u32(24),
  checksum: u32(28),
};

export const magicOffset = headerFields.magic.at;
export const domainOffset = headerFields.domain.at;
export const versionOffset = headerFields.version.at;
export const sourceOffset = headerFields.source.at;
export const payloadSizeOffset = headerFields.payloadSize.at;
export const checksumOffset = headerFields.checksum.at;

/** Every type with a layout. Prices, volumes and amounts count 1e-8. */
export const layouts = {
  trade: fixed(1, 40, {
    assetId: u64(0),
    price: i64(8),
    volume: i64(16),
    executedNs: time(24),
    venue: u16(32),
    assetType: u8(34),
    /** 0 buy, 1 sell. */
    side: u8(36),
  }),
  quote: fixed(2, 52, {
    assetId: u64(0),
    bidPrice: i64(8),
    bidVolume: i64(16),
    askPrice: i64(24),
    askVolume: i64(32),
    quotedNs: time(40),
    venue: u16(48),
    assetType: u8(50),
  }),
  signalIdentity: fixed(20, 16, {
    signalId: u64(0),
    strategyId: u32(8),
    strategyVersion: u16(12),
    confidencePercent: u8(14),
  }),
  assetCorrelation: fixed(21, 24, {
    baseAssetId: u64(0),
    quoteAssetId: u64(8),
    /** Counts 1e-9, from -1 to 1. */
    correlation: i32(16),
    sampleCount: u32(20),
  }),
  economics: fixed(22, 32, {
    expectedProfit: i64(0),
    requiredCapital: i64(8),
    expectedCost: i64(16),
    validUntilNs: time(24),
  }),
  executionAddresses: fixed(23, 84, {
    tokenIn: bytes(0, 20),
    tokenOut: bytes(20, 20),
    pool: bytes(40, 20),
    router: bytes(60, 20),
    chainId: u32(80),
  }),
  orderRequest: fixed(40, 32, {
    orderId: u64(0),
    assetId: u64(8),
    /** 0 takes any price. */
    price: i64(16),
    /** Above zero buys, below zero sells: the same in all types of this domain. */
    volume: i64(24),
  }),
  orderStatus: fixed(41, 24, {
    orderId: u64(0),
    filledVolume: i64(8),
    /** 1 accepted, 2 partly filled, 3 filled, 4 cancelled, 5 rejected, 6 expired. */
    status: u8(16),
    venue: u16(18),
    /** The venue's own number; 0 for none. */
    reason: u32(20),
  }),
  fill: fixed(42, 32, {
    orderId: u64(0),
    fillId: u64(8),
    price: i64(16),
    volume: i64(24),
  }),
  orderCancel: fixed(43, 16, {
    orderId: u64(0),
    requestedNs: time(8),
  }),
  orderModify: fixed(44, 24, {
    orderId: u64(0),
    price: i64(8),
    volume: i64(16),
  }),
  executionReport: fixed(45, 48, {
    orderId: u64(0),
    executionId: u64(8),
    assetId: u64(16),
    price: i64(24),
    volume: i64(32),
    executedNs: time(40),
  }),
  heartbeat: fixed(100, 16, {
    lastSequence: u64(0),
    sentNs: time(8),
  }),
  snapshot: bounded(101, 32, 1024, {
    /** Of the newest message that the state has in it. */
    lastSequence: u64(0),
    takenNs: time(8),
    /** Of the whole snapshot, of which `data` is the part from `partOffset` on. */
    snapshotSize: u32(16),
    partOffset: u32(20),
    /** CRC-32 of the whole snapshot. */
    snapshotChecksum: u32(24),
    /** The application's, of what is in the snapshot. */
    snapshotVersion: u32(28),
    data: rest(32),
  }),
  traceContext: bounded(108, 32, 256, {
    traceId: bytes(0, 16),
    spanId: bytes(16, 8),
    /** The trace-flags of W3C Trace Context: 1 sampled. */
    traceFlags: u8(24),
    /** A tracestate of W3C Trace Context, in ASCII. */
    traceState: rest(32),
  }),
  recoveryRequest: fixed(110, 24, {
    lastSequence: u64(0),
    currentSequence: u64(8),
    consumerId: u32(16),
    /** 1 retransmit, 2 snapshot. */
    requestType: u32(20),
  }),
  recoveryResponse: bounded(111, 20, 1024, {
    firstSequence: u64(0),
    lastSequence: u64(8),
    consumerId: u32(16),
    /** Whole messages behind one another. */
    messages: rest(20),
  }),
  sequenceSync: bounded(112, 16, 256, {
    lastSequence: u64(0),
    /** Of the oldest message that can be retransmitted. */
    oldestSequence: u64(8),
    /** Name of the stream in UTF-8; empty where the source has only one. */
    stream: rest(16),
  }),
};

/** The names of the types that have a layout. */
export type LayoutName = keyof typeof layouts;

const bytesMinByType = new Uint16Array(256);
const bytesMaxByType = new Uint16Array(256).fill(valueBytesMax);

for (const { type, bytesMin, bytesMax } of Object.values(layouts)) {
  bytesMinByType[type] = bytesMin;
  bytesMaxByType[type] = bytesMax;
}

/** Whether a value of `type` may have `valueBytes`. Without a layout it may have any size. */
export function fitsType(type: number, valueBytes: number): boolean {
  const least = bytesMinByType[type] ?? 0;
  const most = bytesMaxByType[type] ?? 0;
  return valueBytes >= least && valueBytes <= most;
}

/** The sizes that `fitsType` takes, in words. */
export function sizesOf(type: number): string {
  return `${bytesMinByType[type] ?? 0} to ${bytesMaxByType[type] ?? 0}`;
}
