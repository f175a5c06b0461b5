/**
 * The two-tier buffer: the newest messages in memory, all of them in RocksDB, any range by id.
 *
 *     await using buffer = await openBuffer({ directory: "/var/lib/exchange/trades" });
 *     await buffer.append(messages);                          // durable when this resolves
 *     const flows = [polledArchive(buffer, { component: "trades" })];
 *     await using server = await serveBuffers({ flows, listen: { host: "10.0.0.7", port: 7400 } });
 *
 * and in another process, which has missed some:
 *
 *     await using peer = connectPeer({ address: "10.0.0.7:7400", flow: "trades" });
 *     await fillGap({ peers: [peer], afterId: lastId, throughId, apply });
 */
import path from "node:path";
import { beginning, follow } from "../chain.ts";
import { assert, describeError, GaplessError, isGaplessError } from "../errors.ts";
import type { Archive, Bounds } from "../flow/endpoints.ts";
import { encodedBytes, isBatch, type Batch, type Message } from "../message.ts";
import { reachedStep } from "../steps.ts";
import { joinChunks, messageBytesMax, packChunks, unpackChunk, type Chunk } from "./chunk.ts";
import { corrupt } from "./cold-errors.ts";
import { idMax } from "./cold-layout.ts";
import { openColdStore, type ColdStore } from "./cold-store.ts";
import { HotRing } from "./hot-ring.ts";
import { checkReadArguments, dataNotYetAvailable, dataTrimmed, rangeFault } from "./range.ts";

export type { ArchiveStatus, BufferArchive, FollowOptions, RangeDigest } from "./archive.ts";
export {
  BufferFull,
  DataCorrupted,
  DataNotYetAvailable,
  DataTrimmed,
  InvalidOperation,
  StorageError,
} from "./buffer-errors.ts";
export { fillGap, type FilledGap, type FillOptions } from "./fill-gap.ts";
export type { Place } from "./peer-address.ts";
export { connectPeer, type Peer } from "./peer-client.ts";
export type { GapPeer, GroupOptions, LostRange, PeerAnswer } from "./peer-group.ts";
export type { Pem, PeerOptions, ServeLimits, ServeOptions } from "./peer-options.ts";
export { serveBuffers, type BufferServer } from "./peer-server.ts";
export { polledArchive, type PolledOptions } from "./polled-archive.ts";
export { recoverLeader, type Recovered, type RecoverOptions } from "./recover-leader.ts";

export interface BufferOptions {
  /** Created where it is missing. One process at a time has it open. */
  readonly directory: string;
  /** Memory for the newest messages. 0 reads everything from RocksDB. Default 64 MiB. */
  readonly hotBytes?: number;
}

/** Keeps the messages of one chained stream until they are trimmed. */
export interface MessageBuffer extends Archive, AsyncDisposable {
  /** Id of the newest durable message; 0n before the first. */
  readonly lastId: bigint;
  /**
   * Keeps messages that follow on the last one appended, and resolves when they are durable.
   * Appends may overlap: they keep their order, and those that wait share one synced write. The
   * bytes are copied before this returns. After a rejection with STORAGE_FULL or
   * SYSTEM_CALL_FAILED the messages may or may not be there once the buffer is opened again, and
   * until then every append is rejected the same way; reads go on.
   *
   * @throws GaplessError CHAIN_BROKEN, MESSAGE_TOO_LARGE or MESSAGE_MALFORMED (nothing of the
   *   call is kept), STORAGE_FULL, SYSTEM_CALL_FAILED, CLOSED.
   */
  append(messages: readonly Message[]): Promise<void>;
  /**
   * As of `Archive`; stops after about 1 MiB. The bytes are views: read them only.
   *
   * @throws GaplessError also STORAGE_CORRUPT, instead of a wrong message or a hole.
   */
  read(fromId: bigint, limit: number): Promise<Batch>;
  /** Where all was trimmed, an empty range: `minId` is `maxId + 1`. */
  bounds(): Promise<Bounds | null>;
  /**
   * Gives up everything through this id, durably: once this resolves, reads at or below it throw
   * DATA_TRIMMED for good. Going back is no error and does nothing.
   *
   * @throws GaplessError DATA_NOT_YET_AVAILABLE beyond `lastId`; as `append`.
   */
  trim(throughId: bigint): Promise<void>;
  /** Waits for the appends and trims under way. Idempotent. */
  close(): Promise<void>;
}

const hotBytesDefault = 64 * 1024 * 1024;

/** Appends that wait are written together up to this size, or one larger. */
const commitBytesMax = 4 * 1024 * 1024;

/**
 * Opens the buffer in `directory`, or creates it.
 *
 * @throws GaplessError ALREADY_OPEN; STORAGE_CORRUPT, also where RocksDB would open but has lost
 *   what was acknowledged; STORAGE_FULL; CONFIG_INVALID; PLATFORM_UNSUPPORTED.
 */
export async function openBuffer(options: BufferOptions): Promise<MessageBuffer> {
  const { directory, hotBytes } = resolveOptions(options);
  return new TwoTierBuffer(directory, await openColdStore(directory), new HotRing(hotBytes));
}

function resolveOptions(options: BufferOptions): Required<BufferOptions> {
  const { directory, hotBytes = hotBytesDefault } = options;
  if (typeof directory !== "string" || directory === "") {
    throw new GaplessError("CONFIG_INVALID", "A buffer needs its directory: directory is empty.");
  }
  if (!Number.isSafeInteger(hotBytes) || hotBytes < 0) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `hotBytes=${hotBytes} of the buffer in ${directory}: expected a whole number, at least 0.`,
    );
  }
  return Object.freeze({ directory: path.resolve(directory), hotBytes });
}

interface WaitingAppend {
  readonly chunks: readonly Chunk[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

class TwoTierBuffer implements MessageBuffer {
  readonly #directory: string;
  readonly #cold: ColdStore;
  readonly #hot: HotRing;
  /** Durable and visible. */
  #lastId: bigint;
  #trimmedId: bigint;
  /** Taken into the queue: where the next append has to follow on. */
  #queuedId: bigint;
  #queue: WaitingAppend[] = [];
  #committing: Promise<void> | undefined;
  /** Oldest message there is, as far as it has been looked up since the last trim. */
  #minId: bigint | undefined;
  /** Why nothing can be written any more. */
  #failure: unknown;
  #closing: Promise<void> | undefined;

  constructor(directory: string, cold: ColdStore, hot: HotRing) {
    this.#directory = directory;
    this.#cold = cold;
    this.#hot = hot;
    this.#lastId = cold.lastId;
    this.#queuedId = cold.lastId;
    this.#trimmedId = cold.trimmedId;
  }

  get lastId(): bigint {
    return this.#lastId;
  }

  async append(messages: readonly Message[]): Promise<void> {
    this.#checkWritable();
    const newest = messages.at(-1);
    if (newest === undefined) return;
    checkAppend(this.#queuedId, messages);
    const chunks = packChunks(messages);
    this.#queuedId = newest.id;
    await new Promise<void>((resolve, reject) => {
      this.#queue.push({ chunks, resolve, reject });
      this.#committing ??= this.#commitQueue();
    });
  }

  async read(fromId: bigint, limit: number): Promise<Batch> {
    this.#checkOpen();
    checkReadArguments(fromId, limit);
    this.#checkRange(fromId);
    const hot = this.#hot.read(fromId, limit);
    if (hot !== null) return hot;
    const rows = await this.#cold.read(fromId, limit);
    // A trim may have come in between, and deleted what was asked for.
    this.#checkRange(fromId);
    return this.#unpackRows(rows, fromId, limit);
  }

  async bounds(): Promise<Bounds | null> {
    this.#checkOpen();
    if (this.#lastId === beginning) return null;
    for (;;) {
      const trimmedId = this.#trimmedId;
      if (trimmedId === this.#lastId) return { minId: trimmedId + 1n, maxId: trimmedId };
      if (this.#minId !== undefined) return { minId: this.#minId, maxId: this.#lastId };
      try {
        const [oldest] = await this.read(trimmedId + 1n, 1);
        if (trimmedId === this.#trimmedId) this.#minId = oldest.id;
      } catch (error) {
        // A trim came in between, and moved what was looked for.
        if (!isGaplessError(error, "DATA_TRIMMED")) throw error;
      }
    }
  }

  async trim(throughId: bigint): Promise<void> {
    this.#checkWritable();
    if (throughId > this.#lastId) throw dataNotYetAvailable(throughId, this.#lastId);
    if (throughId <= this.#trimmedId) return;
    try {
      await this.#cold.trim(throughId);
    } catch (error) {
      this.#failure ??= error;
      throw error;
    }
    if (throughId <= this.#trimmedId) return;
    this.#trimmedId = throughId;
    this.#minId = undefined;
    this.#hot.trim(throughId);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.#committing;
    await this.#cold.close();
  }

  /** One commit at a time: what arrives meanwhile goes into the next. Never rejects. */
  async #commitQueue(): Promise<void> {
    while (this.#queue.length > 0) {
      const group = this.#takeGroup();
      try {
        const chunks = joinChunks(group.flatMap((append) => append.chunks));
        const durable = await this.#cold.commit(chunks);
        reachedStep("buffer.durable");
        for (const chunk of durable) {
          this.#hot.add(chunk);
          this.#lastId = chunk.lastId;
        }
        for (const { resolve } of group) resolve();
      } catch (error) {
        this.#failure ??= error;
        for (const { reject } of [...group, ...this.#queue.splice(0)]) reject(error);
      }
    }
    this.#committing = undefined;
  }

  #takeGroup(): WaitingAppend[] {
    let bytes = 0;
    const full = this.#queue.findIndex((append) => {
      for (const chunk of append.chunks) bytes += chunk.bytes.length;
      return bytes >= commitBytesMax;
    });
    return this.#queue.splice(0, full === -1 ? this.#queue.length : full + 1);
  }

  #unpackRows(rows: readonly Uint8Array[], fromId: bigint, limit: number): Batch {
    const messages: Message[] = [];
    try {
      for (const row of rows) {
        for (const message of unpackChunk(row)) {
          if (message.id >= fromId && messages.length < limit) messages.push(message);
        }
      }
    } catch (error) {
      throw corrupt(this.#directory, describeError(error), error);
    }
    const fault = rangeFault(messages, fromId, limit);
    if (fault !== undefined) throw corrupt(this.#directory, fault);
    assert(isBatch(messages), "an empty range passed for a right one");
    return messages;
  }

  #checkRange(fromId: bigint): void {
    if (fromId > this.#lastId || this.#lastId === beginning) {
      throw dataNotYetAvailable(fromId, this.#lastId);
    }
    if (this.#trimmedId > beginning && fromId <= this.#trimmedId) {
      throw dataTrimmed(fromId, this.#trimmedId);
    }
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (this.#failure !== undefined) throw this.#failure as Error;
  }

  #checkOpen(): void {
    if (this.#closing === undefined) return;
    throw new GaplessError("CLOSED", `The buffer in ${this.#directory} is closed.`);
  }
}

function checkAppend(lastId: bigint, messages: readonly Message[]): void {
  let last = lastId;
  for (const message of messages) {
    const { id, prevId, timestampNs } = message;
    const placement = follow(last, message);
    if (placement !== "next") {
      throw new GaplessError(
        "CHAIN_BROKEN",
        `Not the next message (${placement}): id=${id}, prevId=${prevId}, after id=${last}.`,
      );
    }
    if (id > idMax || timestampNs < 0n || timestampNs > idMax) {
      throw new GaplessError(
        "MESSAGE_MALFORMED",
        `A message does not fit into 64 bits: id=${id}, timestampNs=${timestampNs}.`,
      );
    }
    if (encodedBytes(message) > messageBytesMax) {
      throw new GaplessError(
        "MESSAGE_TOO_LARGE",
        `A message is too large: id=${id}, bytes=${encodedBytes(message)} with its header, ` +
          `at most ${messageBytesMax}.`,
      );
    }
    last = id;
  }
}
