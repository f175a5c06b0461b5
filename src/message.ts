/**
 * What a message is, and its one encoding: in rings, logs, RocksDB values and frames on the wire.
 *
 *   0        8          16             24         28        32
 *   | id u64 | prev u64 | time ns u64  | size u32 | zero u32 | size bytes ...
 *
 * All little-endian. Messages packed behind one another need no separator and no padding.
 */
import { GaplessError } from "./errors.ts";
import type { Link } from "./chain.ts";

export interface Message extends Link {
  /** When it happened, in nanoseconds since 1970. The application's time, not the transport's. */
  readonly timestampNs: bigint;
  readonly bytes: Uint8Array;
}

/** Messages in chain order, at least one. */
export type Batch = readonly [Message, ...Message[]];

export const messageHeaderBytes = 32;

const offsetPrevId = 8;
const offsetTimestamp = 16;
const offsetSize = 24;
const offsetZero = 28;

/** Size of `message` when encoded. */
export function encodedBytes(message: Message): number {
  return messageHeaderBytes + message.bytes.length;
}

/** Writes `message` at `offset` and returns the offset behind it. The caller has made the room. */
export function encodeMessage(
  message: Message,
  bytes: Uint8Array,
  view: DataView,
  offset: number,
): number {
  view.setBigUint64(offset, message.id, true);
  view.setBigUint64(offset + offsetPrevId, message.prevId, true);
  view.setBigUint64(offset + offsetTimestamp, message.timestampNs, true);
  view.setUint32(offset + offsetSize, message.bytes.length, true);
  view.setUint32(offset + offsetZero, 0, true);
  bytes.set(message.bytes, offset + messageHeaderBytes);
  return offset + messageHeaderBytes + message.bytes.length;
}

/** Packs messages behind one another. */
export function packMessages(messages: readonly Message[]): Uint8Array<ArrayBuffer> {
  let size = 0;
  for (const message of messages) size += encodedBytes(message);
  const packed = new Uint8Array(size);
  const view = new DataView(packed.buffer);
  let offset = 0;
  for (const message of messages) offset = encodeMessage(message, packed, view, offset);
  return packed;
}

/** Id and predecessor of the message that is encoded at `offset`. */
export function decodeLink(view: DataView, offset: number): Link {
  return {
    id: view.getBigUint64(offset, true),
    prevId: view.getBigUint64(offset + offsetPrevId, true),
  };
}

/** Size of the message that is encoded at `offset`. */
export function encodedBytesAt(view: DataView, offset: number): number {
  return messageHeaderBytes + view.getUint32(offset + offsetSize, true);
}

/** The message that is encoded at `offset` of `bytes`, which `view` shows. Its bytes are a view. */
export function messageAt(bytes: Uint8Array, view: DataView, offset: number): Message {
  return {
    id: view.getBigUint64(offset, true),
    prevId: view.getBigUint64(offset + offsetPrevId, true),
    timestampNs: view.getBigUint64(offset + offsetTimestamp, true),
    bytes: bytes.subarray(offset + messageHeaderBytes, offset + encodedBytesAt(view, offset)),
  };
}

/**
 * Reads packed messages; their `bytes` are views into `packed`, which must not be reused.
 *
 * @throws GaplessError MESSAGE_MALFORMED with the offset of the first message that does not parse.
 */
export function unpackMessages(packed: Uint8Array): Message[] {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const messages: Message[] = [];
  let offset = 0;
  while (offset < packed.length) {
    if (offset + messageHeaderBytes > packed.length) {
      throw malformed(offset, "the header is cut off");
    }
    const end = offset + encodedBytesAt(view, offset);
    if (end > packed.length) throw malformed(offset, "the size leads past the end");
    if (view.getUint32(offset + offsetZero, true) !== 0) {
      throw malformed(offset, "the reserved word is not zero");
    }
    messages.push(messageAt(packed, view, offset));
    offset = end;
  }
  return messages;
}

/** Id of the newest message of a batch. */
export function lastIdOf(batch: Batch): bigint {
  return (batch.at(-1) ?? batch[0]).id;
}

/** Whether there is anything in `messages`: the door from a list to a batch. */
export function isBatch(messages: readonly Message[]): messages is Batch {
  return messages.length > 0;
}

function malformed(offset: number, reason: string): GaplessError {
  return new GaplessError(
    "MESSAGE_MALFORMED",
    `A packed message does not parse: offset=${offset}, ${reason}.`,
  );
}
