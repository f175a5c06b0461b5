/** Messages on their way into the buffer. Pure. */
import { beginning, follow } from "../chain.ts";
import { GaplessError } from "../errors.ts";
import { encodedBytes, type Message } from "../message.ts";
import { DataCorrupted } from "./buffer-errors.ts";
import { messageBytesMax, packChunks, type Chunk } from "./chunk.ts";
import { idMax } from "./cold-layout.ts";

/** What one append brings: whole or not at all. */
export interface Incoming {
  /** What it has to follow on, and what follows on it; the same where it brings no message. */
  readonly prevId: bigint;
  readonly lastId: bigint;
  readonly count: number;
  readonly bytes: number;
  readonly chunks: readonly Chunk[];
  /** Of the replicated log, what this is the effect of. */
  readonly logPosition: bigint | undefined;
}

/**
 * Copies messages that follow one another; with none, what it brings follows on `lastId`.
 *
 * @throws GaplessError DataCorrupted, MESSAGE_MALFORMED, MESSAGE_TOO_LARGE
 */
export function packIncoming(
  messages: readonly Message[],
  logPosition: bigint | undefined,
  lastId = beginning,
): Incoming {
  const [first] = messages;
  const prevId = first?.prevId ?? lastId;
  let last = prevId;
  for (const message of messages) {
    checkTypes(message);
    const { id } = message;
    if (follow(last, message) !== "next") {
      throw new DataCorrupted(last, message.prevId, `Within a batch, id=${id} does not follow`);
    }
    checkMessage(message);
    last = id;
  }
  const chunks = packChunks(messages);
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.bytes.length, 0);
  return { prevId, lastId: last, count: messages.length, bytes, chunks, logPosition };
}

/** Of a caller, or a codec, that the compiler has not seen: a text would be stored as zeros. */
function checkTypes({ id, prevId, bytes }: Message): void {
  if (id === beginning) {
    throw new GaplessError("MESSAGE_MALFORMED", "A message has id=0: ids begin with 1.");
  }
  if (typeof id === "bigint" && typeof prevId === "bigint" && bytes instanceof Uint8Array) return;
  throw new GaplessError(
    "MESSAGE_MALFORMED",
    `Not a message: id=${String(id)} is a ${typeof id}, prevId=${String(prevId)} a ` +
      `${typeof prevId}, bytes a ${typeof bytes}. Expected two bigints and a Uint8Array.`,
  );
}

function checkMessage(message: Message): void {
  const { id, timestampNs } = message;
  if (id > idMax || timestampNs < 0n || timestampNs > idMax) {
    throw new GaplessError(
      "MESSAGE_MALFORMED",
      `A message does not fit into 64 bits: id=${id}, timestampNs=${timestampNs}.`,
    );
  }
  if (encodedBytes(message) <= messageBytesMax) return;
  throw new GaplessError(
    "MESSAGE_TOO_LARGE",
    `A message is too large: id=${id}, bytes=${encodedBytes(message)} with its header, ` +
      `at most ${messageBytesMax}.`,
  );
}

/**
 * Of messages that follow one another, how many are stored already: those that `stored` shows to be
 * the same, and those through `trimmedId`, of which nothing is left to compare with.
 *
 * @param stored All from the first one behind `trimmedId`, through `lastId` at least.
 * @throws GaplessError DataCorrupted where one is another than it was
 */
export function countStored(
  messages: readonly Message[],
  stored: readonly Message[],
  trimmedId: bigint,
  lastId: bigint,
): number {
  const byId = new Map(stored.map((message) => [message.id, message]));
  const fresh = messages.findIndex(({ id }) => id > lastId);
  const known = fresh === -1 ? messages : messages.slice(0, fresh);
  for (const { id, prevId, bytes } of known) {
    if (id <= trimmedId) continue;
    const before = byId.get(id);
    if (before === undefined) {
      throw new DataCorrupted(id, id, "A message comes now that was not there when its id passed");
    }
    if (before.prevId !== prevId) {
      throw new DataCorrupted(before.prevId, prevId, `id=${id} follows on another than before`);
    }
    if (Buffer.compare(before.bytes, bytes) !== 0) {
      throw new DataCorrupted(id, id, "A message comes again with other bytes");
    }
  }
  return known.length;
}
