/**
 * Many messages as one run of bytes: a row in RocksDB, and a slot of the hot ring.
 *
 *   0           4          8
 *   | count u32 | zero u32 | messages, packed (message.ts) ...
 *
 * Little-endian. The count lets a reader know how many messages a row brings without parsing it.
 */
import { GaplessError } from "../errors.ts";
import { encodedBytes, encodeMessage, unpackMessages, type Message } from "../message.ts";

export interface Chunk {
  /** Of the first message: nothing between it and that message exists. */
  readonly prevId: bigint;
  readonly lastId: bigint;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export const chunkHeaderBytes = 8;
/** A row of RocksDB; a single message may be larger, and then has a row of its own. */
export const chunkBytesMax = 64 * 1024;
/** Encoded. What a peer has to be ready to take in one reply is this and one read more. */
export const messageBytesMax = 16 * 1024 * 1024;

const offsetZero = 4;

/** Cuts messages into chunks of at most `chunkBytesMax`. */
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

/** How many messages the bytes of a chunk say they hold. */
export function countOfChunk(bytes: Uint8Array): number {
  if (bytes.length < chunkHeaderBytes) throw malformed(`bytes=${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(offsetZero, true) !== 0) throw malformed("the reserved word is not zero");
  return view.getUint32(0, true);
}

/**
 * The messages of a chunk, as views into its bytes.
 *
 * @throws GaplessError MESSAGE_MALFORMED.
 */
export function unpackChunk(bytes: Uint8Array): Message[] {
  const count = countOfChunk(bytes);
  const messages = unpackMessages(bytes.subarray(chunkHeaderBytes));
  if (messages.length !== count) {
    throw malformed(`messages=${messages.length}, expected ${count}`);
  }
  return messages;
}

function malformed(reason: string): GaplessError {
  return new GaplessError("MESSAGE_MALFORMED", `A chunk of messages does not parse: ${reason}.`);
}
