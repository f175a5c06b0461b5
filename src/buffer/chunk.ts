/**
 * Many messages as one run of bytes: a row in RocksDB, and what one write makes durable.
 *
 *   0           4          8             16           24
 *   | count u32 | kind u32 | ordinal u64 | bytes u64  | messages, packed (message.ts) ...
 *
 * Little-endian. `ordinal` is how many messages of the stream came before the first one of the
 * chunk, and `bytes` how many those had when packed, trimmed ones included: so what is stored can
 * be counted without being read. Kind 0 has its messages as they are, kind 1 compressed (zstd).
 */
import { zstdCompressSync, zstdDecompressSync, constants } from "node:zlib";
import { GaplessError } from "../errors.ts";
import { encodedBytes, encodeMessage, unpackMessages, type Message } from "../message.ts";

export interface Chunk {
  /** Of the first message: nothing between it and that message exists. */
  readonly prevId: bigint;
  readonly lastId: bigint;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** How much of a stream there was at some place of it. */
export interface Extent {
  readonly messages: bigint;
  /** Packed. */
  readonly bytes: bigint;
}

export const chunkHeaderBytes = 24;
/** A row of RocksDB; a single message may be larger, and then has a row of its own. */
export const chunkBytesMax = 64 * 1024;
/** Encoded. What a peer has to be ready to take in one reply is this and one read more. */
export const messageBytesMax = 16 * 1024 * 1024;

const offsetKind = 4;
const offsetOrdinal = 8;
const offsetBytes = 16;

const plain = 0;
const compressed = 1;
/** Less than this is hardly smaller when compressed, and takes as long. */
const compressedBytesMin = 512;
const compression = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
const decompression = { maxOutputLength: chunkBytesMax + messageBytesMax };

/** Cuts messages into chunks of at most `chunkBytesMax`, whose extent is yet to be stamped. */
export function packChunks(messages: readonly Message[]): Chunk[] {
  const chunks: Chunk[] = [];
  let begin = 0;
  let size = chunkHeaderBytes;
  for (let index = 0; index < messages.length; index++) {
    const message = messages[index];
    if (message === undefined) break;
    const messageSize = encodedBytes(message);
    if (index > begin && size + messageSize > chunkBytesMax) {
      chunks.push(packChunk(messages, begin, index, size));
      begin = index;
      size = chunkHeaderBytes;
    }
    size += messageSize;
  }
  if (begin < messages.length) chunks.push(packChunk(messages, begin, messages.length, size));
  return chunks;
}

function packChunk(messages: readonly Message[], begin: number, end: number, size: number): Chunk {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, end - begin, true);
  let offset = chunkHeaderBytes;
  let prevId = 0n;
  let lastId = 0n;
  for (let index = begin; index < end; index++) {
    const message = messages[index];
    if (message === undefined) break;
    if (index === begin) prevId = message.prevId;
    lastId = message.id;
    offset = encodeMessage(message, bytes, view, offset);
  }
  return { prevId, lastId, bytes };
}

/** Joins neighbours that fit into one, so that small appends written together share a row. */
export function joinChunks(chunks: readonly Chunk[]): Chunk[] {
  const joined: Chunk[] = [];
  let run: Chunk[] = [];
  let size = chunkHeaderBytes;
  for (const chunk of chunks) {
    const bodyBytes = chunk.bytes.length - chunkHeaderBytes;
    if (run.length > 0 && size + bodyBytes > chunkBytesMax) {
      joined.push(...joinRun(run, size));
      run = [];
      size = chunkHeaderBytes;
    }
    run.push(chunk);
    size += bodyBytes;
  }
  return [...joined, ...joinRun(run, size)];
}

function joinRun(run: readonly Chunk[], size: number): readonly Chunk[] {
  const [first] = run;
  const last = run.at(-1);
  if (first === undefined || last === undefined || run.length === 1) return run;
  const bytes = new Uint8Array(size);
  let offset = chunkHeaderBytes;
  let count = 0;
  for (const chunk of run) {
    bytes.set(chunk.bytes.subarray(chunkHeaderBytes), offset);
    offset += chunk.bytes.length - chunkHeaderBytes;
    count += countOfChunk(chunk.bytes);
  }
  new DataView(bytes.buffer).setUint32(0, count, true);
  return [{ prevId: first.prevId, lastId: last.lastId, bytes }];
}

/** Writes what of the stream came before the chunk, and returns what there is behind it. */
export function stampExtent({ bytes }: Chunk, before: Extent): Extent {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setBigUint64(offsetOrdinal, before.messages, true);
  view.setBigUint64(offsetBytes, before.bytes, true);
  return {
    messages: before.messages + BigInt(countOfChunk(bytes)),
    bytes: before.bytes + BigInt(bytes.length - chunkHeaderBytes),
  };
}

/** What of the stream came before the chunk. */
export function extentBefore(bytes: Uint8Array): Extent {
  const view = viewOf(bytes);
  return {
    messages: view.getBigUint64(offsetOrdinal, true),
    bytes: view.getBigUint64(offsetBytes, true),
  };
}

/** How many messages the bytes of a chunk say they hold. */
export function countOfChunk(bytes: Uint8Array): number {
  const view = viewOf(bytes);
  const kind = view.getUint32(offsetKind, true);
  if (kind !== plain && kind !== compressed) throw malformed(`kind=${kind}`);
  return view.getUint32(0, true);
}

/** The same chunk with less bytes, or as it is where that does not make it smaller. */
export function compressChunk(bytes: Uint8Array): Uint8Array {
  if (bytes.length < compressedBytesMin) return bytes;
  const body = zstdCompressSync(bytes.subarray(chunkHeaderBytes), compression);
  if (chunkHeaderBytes + body.length >= bytes.length) return bytes;
  const smaller = withBody(bytes, body);
  new DataView(smaller.buffer).setUint32(offsetKind, compressed, true);
  return smaller;
}

/**
 * The chunk with its messages as they are.
 *
 * @throws GaplessError MESSAGE_MALFORMED
 */
export function expandChunk(bytes: Uint8Array): Uint8Array {
  if (viewOf(bytes).getUint32(offsetKind, true) !== compressed) return bytes;
  let body: Buffer;
  try {
    body = zstdDecompressSync(bytes.subarray(chunkHeaderBytes), decompression);
  } catch (cause) {
    throw malformed("it does not expand", cause);
  }
  const whole = withBody(bytes, body);
  new DataView(whole.buffer).setUint32(offsetKind, plain, true);
  return whole;
}

function withBody(header: Uint8Array, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunkHeaderBytes + body.length);
  bytes.set(header.subarray(0, chunkHeaderBytes));
  bytes.set(body, chunkHeaderBytes);
  return bytes;
}

/**
 * The messages of a chunk that is not compressed, as views into its bytes.
 *
 * @throws GaplessError MESSAGE_MALFORMED.
 */
export function unpackChunk(bytes: Uint8Array): Message[] {
  const count = countOfChunk(bytes);
  if (bytes[offsetKind] !== plain) throw malformed("it is compressed");
  const messages = unpackMessages(bytes.subarray(chunkHeaderBytes));
  if (messages.length !== count) {
    throw malformed(`messages=${messages.length}, expected ${count}`);
  }
  return messages;
}

function viewOf(bytes: Uint8Array): DataView {
  if (bytes.length < chunkHeaderBytes) throw malformed(`bytes=${bytes.length}`);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function malformed(reason: string, cause?: unknown): GaplessError {
  return new GaplessError(
    "MESSAGE_MALFORMED",
    `A chunk of messages does not parse: ${reason}.`,
    cause === undefined ? undefined : { cause },
  );
}
