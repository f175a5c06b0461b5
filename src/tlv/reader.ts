/**
 * Reads messages in place:
 *
 *     const reader = new TlvReader();
 *     const trade = flyweight("trade");
 *
 *     subscriber.poll((memory, offset, length) => {
 *       reader.wrap(memory, offset, length);
 *       while (reader.next()) {
 *         if (reader.type !== layouts.trade.type) continue;
 *         trade.wrap(memory, reader.valueOffset);
 *         onTrade(trade.assetIdNumber, trade.priceNumber);
 *       }
 *     }, 256);
 */
import { GaplessError } from "../errors.ts";
import { messageChecksum } from "./checksum.ts";
import { checksumsByDomain, domainNames, type ChecksumPolicy } from "./domain.ts";
import { headerFlyweight, type HeaderFlyweight } from "./flyweight.ts";
import {
  checksumOffset,
  domainOffset,
  extendedHeaderBytes,
  extendedLengthOffset,
  extendedMark,
  extendedTypeOffset,
  fitsType,
  headerBytes,
  magic,
  magicOffset,
  messageBytesMax,
  payloadSizeOffset,
  shortHeaderBytes,
  sizesOf,
  version,
  versionOffset,
} from "./layout.ts";
import { noMemory, type TlvMemory } from "./memory.ts";

export interface TlvReaderOptions {
  /** What is not as `defaultChecksums` has it. */
  readonly checksums?: Partial<ChecksumPolicy>;
}

/** Reads one message after the other; valid as long as the memory it was wrapped around. */
export class TlvReader {
  /** Of the message. */
  readonly header: Readonly<HeaderFlyweight>;
  /** Of the TLV that `next` came to: its type, and where in the memory its value is. */
  type = 0;
  valueOffset = 0;
  valueLength = 0;

  private readonly headerInPlace = headerFlyweight();
  private readonly isChecksummed: readonly boolean[];
  private view = noMemory.view;
  private start = 0;
  private end = 0;
  /** Where the next TLV begins. */
  private nextOffset = 0;

  constructor({ checksums }: TlvReaderOptions = {}) {
    this.header = this.headerInPlace;
    this.isChecksummed = checksumsByDomain(checksums);
  }

  /**
   * Checks the message at `offset`, all of it, and stands before its first TLV. What the `length`
   * bytes have behind the payload is not looked at.
   *
   * @throws GaplessError MESSAGE_MALFORMED, with the offset from the beginning of the message:
   *   then nothing of it is to be read, and `next` finds nothing.
   */
  wrap(memory: TlvMemory, offset: number, length: number): void {
    this.view = memory.view;
    this.start = offset;
    this.nextOffset = offset;
    this.end = offset;
    const end = this.checkHeader(length);
    const first = offset + headerBytes;
    for (let at = first; at < end; at = this.checkTlv(at, end));
    this.headerInPlace.wrap(memory, offset);
    this.nextOffset = first;
    this.end = end;
  }

  /** Goes to the next TLV. False where there is none. */
  next(): boolean {
    if (this.nextOffset >= this.end) return false;
    this.nextOffset = this.enter(this.nextOffset);
    return true;
  }

  /** Returns where the payload ends. */
  private checkHeader(length: number): number {
    const view = this.view;
    const start = this.start;
    if (length < headerBytes) throw malformed(0, `length=${length} is too short for a header`);
    const foundMagic = view.getUint32(start + magicOffset, true);
    if (foundMagic !== magic) throw malformed(0, `magic=0x${foundMagic.toString(16)}`);
    const domain = view.getUint8(start + domainOffset);
    if (domainNames[domain] === undefined) throw malformed(domainOffset, `domain=${domain}`);
    const foundVersion = view.getUint8(start + versionOffset);
    if (foundVersion !== version) throw malformed(versionOffset, `version=${foundVersion}`);
    const payloadSize = view.getUint32(start + payloadSizeOffset, true);
    const end = start + headerBytes + payloadSize;
    if (end > start + Math.min(length, messageBytesMax)) {
      throw malformed(payloadSizeOffset, `payload_size=${payloadSize} of length=${length}`);
    }
    if (this.isChecksummed[domain] === true) {
      const found = view.getInt32(start + checksumOffset, true);
      if (found !== messageChecksum(view, start, end)) {
        throw malformed(checksumOffset, "the checksum does not match");
      }
    }
    return end;
  }

  /** Returns where the TLV at `at` ends. */
  private checkTlv(at: number, end: number): number {
    const view = this.view;
    const offset = at - this.start;
    const isExtended = view.getUint8(at) === extendedMark;
    if (at + (isExtended ? extendedHeaderBytes : shortHeaderBytes) > end) {
      throw malformed(offset, "the head of a TLV is cut off");
    }
    if (isExtended && view.getUint8(at + 1) !== 0) {
      throw malformed(offset + 1, "the second byte of an extended TLV is not zero");
    }
    const tlvEnd = this.enter(at);
    const { type, valueLength } = this;
    if (type === extendedMark) throw malformed(offset + extendedTypeOffset, "255 is no type");
    if (tlvEnd > end) {
      throw malformed(offset, `type=${type} length=${valueLength} leads past the payload`);
    }
    if (!fitsType(type, valueLength)) {
      throw malformed(offset, `type=${type} length=${valueLength}, expected ${sizesOf(type)}`);
    }
    return tlvEnd;
  }

  /** Comes to the TLV at `at`, and returns where it ends. */
  private enter(at: number): number {
    const view = this.view;
    const type = view.getUint8(at);
    if (type === extendedMark) {
      this.type = view.getUint8(at + extendedTypeOffset);
      this.valueLength = view.getUint16(at + extendedLengthOffset, true);
      this.valueOffset = at + extendedHeaderBytes;
    } else {
      this.type = type;
      this.valueLength = view.getUint8(at + 1);
      this.valueOffset = at + shortHeaderBytes;
    }
    return this.valueOffset + this.valueLength;
  }
}

function malformed(offset: number, reason: string): GaplessError {
  return new GaplessError(
    "MESSAGE_MALFORMED",
    `A TLV message does not parse: offset=${offset}, ${reason}.`,
  );
}
