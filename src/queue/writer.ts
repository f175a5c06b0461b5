/** The writing end: appends to the newest segment, begins new ones, makes them durable in order. */
import { follow } from "../chain.ts";
import { GaplessError } from "../errors.ts";
import { encodedBytes, type Message } from "../message.ts";
import { reachedStep } from "../steps.ts";
import { headerBytes, recordBytes, segmentBytesFor, segmentBytesMax } from "./layout.ts";
import type { Recovered } from "./recovery.ts";
import { createSegment, removeSegment } from "./segment.ts";
import { storageFailed } from "./storage-errors.ts";
import { Tail } from "./tail.ts";

export class Writer {
  readonly #directory: string;
  readonly #segmentBytes: number;
  /** Shared with the reader. */
  readonly #prevIds: bigint[];
  #tail: Tail | null;
  /** Segments before the newest that are not durable yet, oldest first. */
  readonly #retired: Tail[] = [];
  #lastId: bigint;
  #durableId: bigint;
  /** The sync that is under way, and the one that begins behind it. */
  #syncing: Promise<void> = Promise.resolve();
  #syncingNext: Promise<void> | null = null;
  /** After a failed sync the kernel may have dropped pages that it then calls clean. */
  #failure: Error | null = null;

  constructor(directory: string, segmentBytes: number, recovered: Recovered) {
    this.#directory = directory;
    this.#segmentBytes = segmentBytes;
    this.#prevIds = recovered.prevIds;
    this.#tail = recovered.tail;
    this.#lastId = recovered.tail?.lastId ?? 0n;
    this.#durableId = this.#lastId;
  }

  get lastId(): bigint {
    return this.#lastId;
  }

  get durableId(): bigint {
    return this.#durableId;
  }

  append(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    if (this.#failure !== null) throw this.#failure;
    const bytes = this.#measure(messages);
    const tail = this.#tail?.hasRoomFor(bytes) === true ? this.#tail : this.#beginSegment(bytes);
    tail.append(messages);
    this.#lastId = tail.lastId;
    reachedStep("queue.appended");
  }

  flush(): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#durableId === this.#lastId) return Promise.resolve();
    this.#syncingNext ??= this.#syncing.then(() => {
      this.#syncingNext = null;
      this.#syncing = this.#sync();
      return this.#syncing;
    });
    return this.#syncingNext;
  }

  /** Flushes, and gives the memory back whether that worked or not. */
  async close(): Promise<void> {
    try {
      await this.flush();
      await this.#tail?.seal();
    } finally {
      for (const tail of this.#retired) tail.segment.mapping.unmap();
      this.#tail?.segment.mapping.unmap();
      this.#tail = null;
    }
  }

  /** Space that the messages take; throws before anything is written if one must not be. */
  #measure(messages: readonly Message[]): number {
    const recordBytesMax = this.#segmentBytes - headerBytes;
    let lastId = this.#lastId;
    let bytes = 0;
    for (const message of messages) {
      const placement = follow(lastId, message);
      if (placement !== "next") throw chainBroken(lastId, message, placement);
      const size = recordBytes(encodedBytes(message));
      if (size > recordBytesMax) throw tooLarge(`Message ${message.id}`, size, recordBytesMax);
      if (!isUint64(message.id) || !isUint64(message.timestampNs)) throw malformed(message);
      lastId = message.id;
      bytes += size;
    }
    return bytes;
  }

  /**
   * Begins a segment with room for a whole batch, larger than others if need be: a batch never
   * lies in two, so where there is no room for one, nothing of it has been written.
   */
  #beginSegment(bytes: number): Tail {
    const size = Math.max(this.#segmentBytes, segmentBytesFor(bytes));
    if (size > segmentBytesMax) throw tooLarge("A batch", size, segmentBytesMax);
    if (this.#tail?.isEmpty === true) this.#dropEmptyTail(this.#tail);
    const tail = new Tail(
      createSegment(this.#directory, this.#lastId, size),
      headerBytes,
      this.#lastId,
    );
    if (this.#tail !== null) {
      this.#retired.push(this.#tail);
      // Begins to write the full segment back now, so that the next flush finds little to do. If
      // it fails, the next call says so.
      this.flush().catch(() => undefined);
    }
    this.#tail = tail;
    this.#prevIds.push(this.#lastId);
    return tail;
  }

  /** A segment in which nothing has room, and whose name its successor needs. */
  #dropEmptyTail(tail: Tail): void {
    tail.segment.mapping.unmap();
    removeSegment(this.#directory, tail.segment.prevId);
    this.#tail = null;
    this.#prevIds.pop();
  }

  /** Oldest segment first: what is durable never has a hole in it. */
  async #sync(): Promise<void> {
    const throughId = this.#lastId;
    const tails = this.#tail === null ? [...this.#retired] : [...this.#retired, this.#tail];
    try {
      for (const tail of tails) await tail.sync();
      this.#durableId = throughId;
      reachedStep("queue.durable");
      await this.#releaseRetired();
    } catch (error) {
      this.#failure = storageFailed(`flushing the queue in ${this.#directory}`, error);
      throw this.#failure;
    }
  }

  async #releaseRetired(): Promise<void> {
    for (;;) {
      const tail = this.#retired[0];
      // One that was retired while it was being synced has its last records still to come.
      if (tail?.isDurable !== true) return;
      await tail.seal();
      tail.segment.mapping.unmap();
      this.#retired.shift();
    }
  }
}

const uint64Bits = 64;

function isUint64(value: bigint): boolean {
  return BigInt.asUintN(uint64Bits, value) === value;
}

function chainBroken(lastId: bigint, message: Message, placement: string): GaplessError {
  return new GaplessError(
    "CHAIN_BROKEN",
    `Message ${message.id} cannot be appended: prevId=${message.prevId}, the queue ends with ` +
      `id=${lastId} (${placement}). Append each message once, behind its predecessor.`,
  );
}

function tooLarge(what: string, bytes: number, bytesMax: number): GaplessError {
  return new GaplessError(
    "MESSAGE_TOO_LARGE",
    `${what} does not fit into a segment: bytes=${bytes}, at most ${bytesMax}. ` +
      "Raise segmentBytes.",
  );
}

function malformed(message: Message): GaplessError {
  return new GaplessError(
    "MESSAGE_MALFORMED",
    `Message ${message.id} has numbers outside 64 bits: timestampNs=${message.timestampNs}.`,
  );
}
