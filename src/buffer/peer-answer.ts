/** Nothing that a peer says is believed: what is not the answer to the question is a lie. */
import { beginning, follow } from "../chain.ts";
import { isGaplessError } from "../errors.ts";
import type { Bounds } from "../flow/endpoints.ts";
import { isBatch, unpackMessages, type Batch, type Message } from "../message.ts";
import type { ArchiveStatus, RangeDigest } from "./archive.ts";
import { DataCorrupted } from "./buffer-errors.ts";
import type { DigestResponse, StatusResponse } from "./proto/msg_sync_pb.ts";
import { rangeFault } from "./range.ts";

const digestBytes = 32;

/** @throws DataCorrupted where they are not what `read(fromId, limit)` may answer. */
export function checkedRange(
  messages: readonly Message[],
  fromId: bigint,
  limit: number,
  address: string,
): Batch {
  const fault = rangeFault(messages, fromId, limit);
  if (fault !== undefined) throw lie(address, fault, ...whereBroken(messages, fromId));
  if (!isBatch(messages)) throw lie(address, "no messages", fromId, beginning);
  return messages;
}

/**
 * Frames of a stream as batches, each following on the one before; the first one as the answer
 * to `read(fromId, ...)`, or on `lastId` where that is known.
 */
export class ChainedFrames {
  private readonly address: string;
  private readonly fromId: bigint;
  private lastId: bigint | undefined;

  constructor(address: string, fromId: bigint, lastId?: bigint) {
    this.address = address;
    this.fromId = fromId;
    this.lastId = lastId;
  }

  /** @throws DataCorrupted */
  take(packed: Uint8Array): Batch {
    const messages = unpackAnswer(packed, this.fromId, this.address);
    let last = this.lastId;
    for (const message of messages) {
      // Of the first of all, its predecessor is not known: that it is the first shows further down.
      if (last !== undefined && follow(last, message) !== "next") {
        throw lie(this.address, `id=${message.id} has prevId=${message.prevId}`, last, message.id);
      }
      last = message.id;
    }
    const isFirst = this.lastId === undefined;
    this.lastId = last;
    if (isFirst) return checkedRange(messages, this.fromId, Infinity, this.address);
    if (!isBatch(messages)) throw lie(this.address, "an empty frame", this.fromId, beginning);
    return messages;
  }
}

/** @throws DataCorrupted where the packed messages do not parse. */
export function unpackAnswer(packed: Uint8Array, fromId: bigint, address: string): Message[] {
  try {
    return unpackMessages(packed);
  } catch (error) {
    if (!isGaplessError(error, "MESSAGE_MALFORMED")) throw error;
    throw lie(address, error.message, fromId, beginning, { cause: error });
  }
}

/** @throws DataCorrupted */
export function checkedStatus(
  { minId, maxId, logPosition, flow: answered }: StatusResponse,
  flow: string,
  address: string,
): ArchiveStatus {
  if (answered !== flow) {
    throw lie(address, `asked for flow=${flow}, answered for ${answered}`, beginning, beginning);
  }
  const isRange = minId === undefined || (maxId !== undefined && minId > beginning);
  // All was trimmed: as `Archive` says it, and as `BufferArchive` does.
  if (isRange && minId !== undefined && minId === (maxId ?? beginning) + 1n) {
    return { minId: undefined, maxId, logPosition };
  }
  if (!isRange || maxId === beginning || (minId ?? beginning) > (maxId ?? beginning)) {
    const fault = `minId=${minId ?? "none"}, maxId=${maxId ?? "none"}`;
    throw lie(address, fault, minId ?? beginning, maxId ?? beginning);
  }
  return { minId, maxId, logPosition };
}

/** Bounds as `Archive` has them: an empty range where all was trimmed. */
export function boundsOf({ minId, maxId }: ArchiveStatus): Bounds | null {
  return maxId === undefined ? null : { minId: minId ?? maxId + 1n, maxId };
}

/** @throws DataCorrupted */
export function checkedDigest(
  { count, sha256 }: DigestResponse,
  fromId: bigint,
  address: string,
): RangeDigest {
  if (sha256.length === digestBytes && count <= BigInt(Number.MAX_SAFE_INTEGER)) {
    return { count: Number(count), sha256 };
  }
  throw lie(address, `count=${count}, bytes of sha256=${sha256.length}`, fromId, beginning);
}

/** What was said by the peer at `address` cannot be. */
export function lie(
  address: string,
  fault: string,
  expectedId: bigint,
  foundId: bigint,
  options?: ErrorOptions,
): DataCorrupted {
  const what = `The peer at ${address} answered wrongly (${fault})`;
  return new DataCorrupted(expectedId, foundId, what, options);
}

/** Where the next message was to follow on, and which one was found there. */
function whereBroken(messages: readonly Message[], fromId: bigint): [bigint, bigint] {
  const [first] = messages;
  if (first === undefined) return [fromId, beginning];
  if (first.id < fromId || first.prevId >= fromId) return [fromId, first.id];
  let last = first.prevId;
  for (const message of messages) {
    if (follow(last, message) !== "next") return [last, message.id];
    last = message.id;
  }
  // As it should be, and more than was asked for.
  return [fromId, last];
}
