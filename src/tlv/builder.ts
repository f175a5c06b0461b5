/**
 * Writes messages in place, one after the other, into memory that the caller has claimed:
 *
 *     const claimBytes = headerBytes + tlvBytes(layouts.trade.bytesMin);
 *     const builder = new TlvBuilder({ domain: "marketData", source: 7 });
 *
 *     const offset = publisher.claim(claimBytes);
 *     if (offset === BACK_PRESSURED) return offset;
 *     builder.begin(publisher.memory, offset, claimBytes);
 *     builder.header.sequenceNumber = ++sequence;
 *     const trade = builder.addTrade();
 *     trade.assetIdNumber = 42;
 *     trade.priceNumber = 6_412_350_000_000;
 *     builder.finish();
 *     publisher.commit();
 *
 * What is not assigned is zero. None of this allocates; what numbers cost is told at
 * `FieldsInPlace`.
 */
import { GaplessError } from "../errors.ts";
import { messageChecksum } from "./checksum.ts";
import {
  checksumsByDomain,
  domains,
  typesCarriedBy,
  type ChecksumPolicy,
  type DomainName,
} from "./domain.ts";
import {
  flyweight,
  headerFlyweight,
  type Flyweight,
  type HeaderFlyweight,
  type FlyweightOf,
} from "./flyweight.ts";
import {
  checksumOffset,
  domainOffset,
  extendedHeaderBytes,
  extendedLengthOffset,
  extendedMark,
  extendedTypeOffset,
  fitsType,
  headerBytes,
  layouts,
  magic,
  magicOffset,
  messageBytesMax,
  payloadSizeOffset,
  shortHeaderBytes,
  shortValueBytesMax,
  sizesOf,
  sourceOffset,
  tlvBytes,
  version,
  versionOffset,
  type Fields,
  type Layout,
} from "./layout.ts";
import { noMemory, type TlvMemory } from "./memory.ts";

/** What all messages of a builder have in common. */
export interface TlvBuilderOptions {
  readonly domain: DomainName;
  /** The number of this sender, 0 to 255. */
  readonly source: number;
  /** What is not as `defaultChecksums` has it. */
  readonly checksums?: Partial<ChecksumPolicy>;
}

/** What the application says in a header; the rest is the builder's. */
export type OpenHeader = Pick<
  HeaderFlyweight,
  | "flags"
  | "sequence"
  | "sequenceNumber"
  | "sequenceLow"
  | "sequenceHigh"
  | "timestampNs"
  | "timestampNsNumber"
  | "timestampNsLow"
  | "timestampNsHigh"
>;

/**
 * A message is begun, filled and finished. What the adders return is valid until the next message.
 *
 * An adder throws MESSAGE_TOO_LARGE where the TLV does not fit, and INPUT_MALFORMED for a type
 * that the domain does not carry or a value that the type does not have. Nothing was added then.
 */
export class TlvBuilder {
  /** Zero until it is assigned, which may be at any time before `finish`. */
  readonly header: OpenHeader;

  private readonly headerInPlace = headerFlyweight();
  private readonly domain: DomainName;
  private readonly domainNumber: number;
  private readonly source: number;
  private readonly carried: Uint8Array;
  private readonly isChecksummed: boolean;
  private memory = noMemory;
  private start = 0;
  private end = 0;
  private limit = 0;

  private readonly trade = flyweight("trade");
  private readonly quote = flyweight("quote");
  private readonly signalIdentity = flyweight("signalIdentity");
  private readonly assetCorrelation = flyweight("assetCorrelation");
  private readonly economics = flyweight("economics");
  private readonly executionAddresses = flyweight("executionAddresses");
  private readonly orderRequest = flyweight("orderRequest");
  private readonly orderStatus = flyweight("orderStatus");
  private readonly fill = flyweight("fill");
  private readonly orderCancel = flyweight("orderCancel");
  private readonly orderModify = flyweight("orderModify");
  private readonly executionReport = flyweight("executionReport");
  private readonly heartbeat = flyweight("heartbeat");
  private readonly snapshot = flyweight("snapshot");
  private readonly traceContext = flyweight("traceContext");
  private readonly recoveryRequest = flyweight("recoveryRequest");
  private readonly recoveryResponse = flyweight("recoveryResponse");
  private readonly sequenceSync = flyweight("sequenceSync");

  /** @throws GaplessError CONFIG_INVALID for a source that is no byte. */
  constructor({ domain, source, checksums }: TlvBuilderOptions) {
    if ((source & 0xff) !== source) {
      throw new GaplessError("CONFIG_INVALID", `source is ${source}. Expected 0 to 255.`);
    }
    this.header = this.headerInPlace;
    this.domain = domain;
    this.domainNumber = domains[domain];
    this.source = source;
    this.carried = typesCarriedBy(domain);
    this.isChecksummed = checksumsByDomain(checksums)[this.domainNumber] === true;
  }

  /**
   * Begins a message in the `capacity` bytes at `offset`. One that was not finished is forgotten.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE where not even the header fits.
   */
  begin(memory: TlvMemory, offset: number, capacity: number): void {
    if (!(capacity >= headerBytes)) {
      throw new GaplessError(
        "MESSAGE_TOO_LARGE",
        `capacity=${capacity} is too little for a header.`,
      );
    }
    const { view } = memory;
    this.memory = memory;
    this.start = offset;
    this.end = offset + headerBytes;
    this.limit = offset + Math.min(capacity, messageBytesMax);
    zero(view, offset, this.end);
    view.setUint32(offset + magicOffset, magic, true);
    view.setUint8(offset + domainOffset, this.domainNumber);
    view.setUint8(offset + versionOffset, version);
    view.setUint8(offset + sourceOffset, this.source);
    this.headerInPlace.wrap(memory, offset);
  }

  /** Bytes of the message so far. */
  get length(): number {
    return this.end - this.start;
  }

  /** Ends the message and returns its length. */
  finish(): number {
    const { view } = this.memory;
    const { start, length } = this;
    view.setUint32(start + payloadSizeOffset, length - headerBytes, true);
    if (this.isChecksummed) {
      view.setInt32(start + checksumOffset, messageChecksum(view, start, this.end), true);
    }
    return length;
  }

  /** Adds a TLV of any type, with the bytes of `value` from `from` up to `to`. */
  add(type: number, value: Uint8Array, from = 0, to = value.length): void {
    if (!(from >= 0 && to <= value.length)) {
      throw new GaplessError(
        "INPUT_MALFORMED",
        `from=${from} to=${to} is no range of a value of ${value.length} bytes.`,
      );
    }
    const { bytes } = this.memory;
    let at = this.place(type, to - from);
    // A loop, because a subarray to copy from would be allocated. In range: checked above.
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    for (let index = from; index < to; index++) bytes[at++] = value[index]!;
  }

  addTrade(): Flyweight<"trade"> {
    return this.placeFields(layouts.trade, this.trade);
  }

  addQuote(): Flyweight<"quote"> {
    return this.placeFields(layouts.quote, this.quote);
  }

  addSignalIdentity(): Flyweight<"signalIdentity"> {
    return this.placeFields(layouts.signalIdentity, this.signalIdentity);
  }

  addAssetCorrelation(): Flyweight<"assetCorrelation"> {
    return this.placeFields(layouts.assetCorrelation, this.assetCorrelation);
  }

  addEconomics(): Flyweight<"economics"> {
    return this.placeFields(layouts.economics, this.economics);
  }

  addExecutionAddresses(): Flyweight<"executionAddresses"> {
    return this.placeFields(layouts.executionAddresses, this.executionAddresses);
  }

  addOrderRequest(): Flyweight<"orderRequest"> {
    return this.placeFields(layouts.orderRequest, this.orderRequest);
  }

  addOrderStatus(): Flyweight<"orderStatus"> {
    return this.placeFields(layouts.orderStatus, this.orderStatus);
  }

  addFill(): Flyweight<"fill"> {
    return this.placeFields(layouts.fill, this.fill);
  }

  addOrderCancel(): Flyweight<"orderCancel"> {
    return this.placeFields(layouts.orderCancel, this.orderCancel);
  }

  addOrderModify(): Flyweight<"orderModify"> {
    return this.placeFields(layouts.orderModify, this.orderModify);
  }

  addExecutionReport(): Flyweight<"executionReport"> {
    return this.placeFields(layouts.executionReport, this.executionReport);
  }

  addHeartbeat(): Flyweight<"heartbeat"> {
    return this.placeFields(layouts.heartbeat, this.heartbeat);
  }

  addSnapshot(dataLength = 0): Flyweight<"snapshot"> {
    return this.placeFields(layouts.snapshot, this.snapshot, dataLength);
  }

  addTraceContext(traceStateLength = 0): Flyweight<"traceContext"> {
    return this.placeFields(layouts.traceContext, this.traceContext, traceStateLength);
  }

  addRecoveryRequest(): Flyweight<"recoveryRequest"> {
    return this.placeFields(layouts.recoveryRequest, this.recoveryRequest);
  }

  addRecoveryResponse(messagesLength = 0): Flyweight<"recoveryResponse"> {
    return this.placeFields(layouts.recoveryResponse, this.recoveryResponse, messagesLength);
  }

  addSequenceSync(streamLength = 0): Flyweight<"sequenceSync"> {
    return this.placeFields(layouts.sequenceSync, this.sequenceSync, streamLength);
  }

  private placeFields<F extends Fields>(
    { type, bytesMin }: Layout<F>,
    value: FlyweightOf<F>,
    restLength = 0,
  ): FlyweightOf<F> {
    const valueBytes = bytesMin + restLength;
    return value.wrap(this.memory, this.place(type, valueBytes), valueBytes);
  }

  /** Writes the head of a TLV and zeros behind it, and returns where its value begins. */
  private place(type: number, valueBytes: number): number {
    if (this.carried[type] !== 1 || !fitsType(type, valueBytes)) this.refuse(type, valueBytes);
    const { view } = this.memory;
    const start = this.end;
    const end = start + tlvBytes(valueBytes);
    if (end > this.limit) this.refuseForSize(end - start);
    this.end = end;
    let valueOffset = start + shortHeaderBytes;
    if (valueBytes <= shortValueBytesMax) {
      view.setUint8(start, type);
      view.setUint8(start + 1, valueBytes);
    } else {
      valueOffset = start + extendedHeaderBytes;
      view.setUint8(start, extendedMark);
      view.setUint8(start + 1, 0);
      view.setUint8(start + extendedTypeOffset, type);
      view.setUint16(start + extendedLengthOffset, valueBytes, true);
    }
    zero(view, valueOffset, end);
    return valueOffset;
  }

  private refuse(type: number, valueBytes: number): never {
    const reason =
      this.carried[type] === 1
        ? `its value has ${valueBytes} bytes, expected ${sizesOf(type)}`
        : `messages of the domain ${this.domain} do not carry it`;
    throw new GaplessError("INPUT_MALFORMED", `A TLV of type ${type} was not added: ${reason}.`);
  }

  private refuseForSize(bytes: number): never {
    const capacity = this.limit - this.start;
    throw new GaplessError(
      "MESSAGE_TOO_LARGE",
      `There is no room for ${bytes} bytes more: length=${this.length} capacity=${capacity}.`,
    );
  }
}

/** By words: a fill would cost more for so few bytes. */
function zero(view: DataView, from: number, to: number): void {
  let at = from;
  for (; at + 8 <= to; at += 8) view.setFloat64(at, 0);
  for (; at < to; at++) view.setUint8(at, 0);
}
