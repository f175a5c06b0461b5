/**
 * The messages of a buffer, in two tiers: the newest in memory, all of them in RocksDB.
 *
 *   append ─► RocksDB (durable) ─► ring ─► readers that follow
 *   read   ─► ring, or else RocksDB
 */
import { beginning } from "../chain.ts";
import { assert, describeError, GaplessError } from "../errors.ts";
import type { Bounds } from "../flow/endpoints.ts";
import { isBatch, lastIdOf, type Batch, type Message } from "../message.ts";
import { reachedStep } from "../steps.ts";
import type { ArchiveStatus, BufferArchive, FollowOptions, RangeDigest } from "./archive.ts";
import {
  BufferFull,
  DataCorrupted,
  DataNotYetAvailable,
  DataTrimmed,
  InvalidOperation,
} from "./buffer-errors.ts";
import type { Observers, Tier } from "./buffer-observer.ts";
import type { ResolvedBufferOptions } from "./buffer-options.ts";
import { joinChunks, stampExtent, unpackChunk, type Chunk, type Extent } from "./chunk.ts";
import { corrupt } from "./cold-errors.ts";
import type { ColdState } from "./cold-layout.ts";
import { openColdStore, type ColdStore } from "./cold-store.ts";
import { CommitQueue, type Appended, type CommitTarget } from "./commit-queue.ts";
import { HotRing } from "./hot-ring.ts";
import { countStored, packIncoming, type Incoming } from "./incoming.ts";
import { checkId, checkReadArguments, rangeFault } from "./range.ts";
import { unlessClosed } from "./unless-closed.ts";

export interface BufferStats {
  readonly component: string;
  /** Messages that are kept. */
  readonly total: number;
  /** Of those, how many are in memory, and how many only in RocksDB. */
  readonly hot: number;
  readonly cold: number;
  /** undefined where nothing is kept. */
  readonly minId: bigint | undefined;
  readonly maxId: bigint | undefined;
  /** Share of the reads that memory has answered since the opening; 0 before the first. */
  readonly hitRate: number;
  /** Encoded, of all that are kept. */
  readonly bytes: number;
  /** Of memory, for those that are hot. */
  readonly hotBytes: number;
  /** Messages that came again since the opening. */
  readonly duplicates: number;
  /** Of the replicated log; 0n where there is none. */
  readonly logPosition: bigint;
  /** Messages that trims have taken, all of them together: with `total`, as many as ever came. */
  readonly trimmed: number;
  readonly lastTrim: LastTrim | undefined;
}

/** What is too much in a buffer: what either says. */
export interface ExcessRules {
  /** Messages that stay. */
  readonly count?: number;
  /** By the messages' own times, which are taken to rise. 0n is no time. */
  readonly ageMs?: number;
}

export interface LastTrim {
  readonly beforeId: bigint;
  readonly deleted: number;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

const nsPerMs = 1_000_000n;
/** Messages of a step of `follow`, at most. */
const followMax = 1024;

/** Opens the store, or creates it. @throws GaplessError as `openMsgBuffer` */
export async function openMessageStore(
  options: Pick<ResolvedBufferOptions<Message>, "component" | "hot" | "totalMax" | "cold">,
  observers: Observers,
): Promise<MessageStore> {
  const cold = await openColdStore(options.cold);
  return new MessageStore(options, cold, observers);
}

export class MessageStore implements BufferArchive, CommitTarget {
  readonly component: string;
  /** Of its files. */
  readonly directory: string;

  private readonly totalMax: number;
  private readonly cold: ColdStore;
  private readonly hot: HotRing;
  private readonly commits = new CommitQueue(this);
  private readonly observers: Observers;
  /** Durable and visible. */
  private newestId: bigint;
  private appended: Extent;
  private state: ColdState;
  /** Oldest message there is, as far as it has been looked up since the last trim. */
  private oldestId: bigint | undefined;
  private reads = 0;
  private hits = 0;
  private duplicates = 0;
  /** Who waits for more. */
  private readonly followers = new Set<() => void>();
  /** Why nothing can be written any more. */
  private failure: unknown;
  private closing: Promise<void> | undefined;

  constructor(
    options: Pick<ResolvedBufferOptions<Message>, "component" | "hot" | "totalMax" | "cold">,
    cold: ColdStore,
    observers: Observers,
  ) {
    this.component = options.component;
    this.directory = options.cold.directory;
    this.totalMax = options.totalMax;
    this.cold = cold;
    this.hot = new HotRing(options.hot);
    this.observers = observers;
    this.newestId = cold.opened.lastId;
    this.appended = cold.opened.appended;
    this.state = cold.opened.state;
  }

  get lastId(): bigint {
    return this.newestId;
  }

  get logPosition(): bigint {
    return this.state.logPosition;
  }

  get isClosed(): boolean {
    return this.closing !== undefined;
  }

  /** As `MsgBuffer.append`, of messages. */
  async append(messages: readonly Message[], logPosition?: bigint): Promise<Appended> {
    return this.observers.watch(
      async () => {
        this.checkWritable();
        if (logPosition !== undefined) checkId("logPosition", logPosition);
        else if (messages.length === 0) return { appended: 0, duplicates: 0 };
        const incoming = packIncoming(messages, logPosition, this.newestId);
        const appended = await this.commits.push(incoming);
        this.duplicates += appended.duplicates;
        return appended;
      },
      (observer, ms, _result, error) => observer.appended?.(ms, error),
    );
  }

  /** As `Archive.read`; stops after about 1 MiB. The bytes are views: read them only. */
  async read(fromId: bigint, limit: number): Promise<Batch> {
    let tier: Tier | undefined;
    return this.observers.watch(
      async () => {
        this.checkOpen();
        checkReadArguments(fromId, limit);
        await this.checkRange(fromId);
        this.reads++;
        const hot = this.hot.read(fromId, limit);
        tier = hot === null ? "cold" : "hot";
        if (hot === null) return this.readCold(fromId, limit);
        this.hits++;
        return hot;
      },
      (observer, ms, _result, error) => observer.queried?.(ms, tier, error),
    );
  }

  /** As many messages as there are, and `limit` at most: whatever their bytes. */
  async readAll(fromId: bigint, limit: number): Promise<Message[]> {
    const messages: Message[] = [...(await this.read(fromId, limit))];
    for (let last = messages.at(-1); last !== undefined; last = messages.at(-1)) {
      if (messages.length >= limit || last.id >= this.newestId) break;
      messages.push(...(await this.read(last.id + 1n, limit - messages.length)));
    }
    return messages;
  }

  async contains(id: bigint): Promise<boolean> {
    this.checkOpen();
    checkId("id", id);
    if (id > this.newestId || id <= this.state.trimmedId || id === beginning) return false;
    try {
      return (await this.read(id, 1))[0].id === id;
    } catch (error) {
      // A trim has come in between.
      if (error instanceof DataTrimmed) return false;
      throw error;
    }
  }

  /** As `Archive.bounds`: where all was trimmed, `minId` is `maxId + 1`. */
  async bounds(): Promise<Bounds | null> {
    this.checkOpen();
    if (this.newestId === beginning) return null;
    return { minId: (await this.minId()) ?? this.newestId + 1n, maxId: this.newestId };
  }

  async status(): Promise<ArchiveStatus> {
    const minId = await this.minId();
    const maxId = this.newestId === beginning ? undefined : this.newestId;
    return { minId, maxId, logPosition: this.logPosition };
  }

  /** undefined where nothing is kept. */
  async minId(): Promise<bigint | undefined> {
    this.checkOpen();
    while (this.oldestId === undefined) {
      const { trimmedId } = this.state;
      if (trimmedId === this.newestId) return undefined;
      try {
        const hot = this.hot.read(trimmedId + 1n, 1);
        const [oldest] = hot ?? (await this.readCold(trimmedId + 1n, 1));
        if (trimmedId === this.state.trimmedId) this.oldestId = oldest.id;
      } catch (error) {
        // A trim has come in between, and moved what was looked for.
        if (!(error instanceof DataTrimmed)) throw error;
      }
    }
    return this.oldestId;
  }

  async *follow(fromId: bigint, { signal }: FollowOptions = {}): AsyncGenerator<Batch, void, void> {
    checkId("fromId", fromId);
    let next = fromId === beginning ? 1n : fromId;
    while (signal?.aborted !== true && !this.isClosed) {
      if (next > this.newestId) {
        await this.changed(signal);
        continue;
      }
      const batch = await unlessClosed(this, this.read(next, followMax));
      if (batch === undefined) return;
      next = lastIdOf(batch) + 1n;
      yield batch;
    }
  }

  async digest(fromId: bigint, throughId: bigint): Promise<RangeDigest> {
    return this.observers.watch(
      async () => {
        this.checkOpen();
        checkId("fromId", fromId);
        checkId("throughId", throughId);
        await this.checkRange(fromId);
        if (throughId > this.newestId) throw new DataNotYetAvailable(throughId, this.newestId);
        try {
          return await this.cold.digest(fromId, throughId);
        } finally {
          // A trim may have come in between, and deleted what was asked for.
          await this.checkRange(fromId);
        }
      },
      (observer, ms, _result, error) => {
        // Nobody is brought a message: only that it failed is of interest.
        if (error !== undefined) observer.queried?.(ms, undefined, error);
      },
    );
  }

  /** As `MsgBuffer.trim`. */
  async trim(beforeId: bigint, logPosition?: bigint): Promise<number> {
    return this.observers.watch(
      () => this.trimBefore(beforeId, logPosition),
      (observer, ms, deleted, error) => observer.trimmed?.(ms, deleted ?? 0, error),
    );
  }

  /** As `MsgBuffer.startAfter`. */
  async startAfter(id: bigint): Promise<void> {
    checkId("id", id);
    await this.commits.between(async () => {
      this.checkWritable();
      if (this.newestId !== beginning) {
        throw new InvalidOperation(
          `The buffer of ${this.component} cannot start after id=${id}: it has come to ` +
            `id=${this.newestId}. Only an empty one can start anywhere.`,
        );
      }
      this.state = (await this.written(this.cold.start(id))).state;
      this.newestId = id;
    });
  }

  async stats(): Promise<BufferStats> {
    const minId = await this.minId();
    const { appended, state, hot } = this;
    const total = Number(appended.messages - state.trimmed.messages);
    const { trimmedAtMs: atMs, trimmedLast: deleted } = state;
    const lastTrim = atMs === 0 ? undefined : { beforeId: state.trimmedId + 1n, deleted, atMs };
    return {
      component: this.component,
      total,
      hot: hot.count,
      cold: total - hot.count,
      minId,
      maxId: minId === undefined ? undefined : this.newestId,
      hitRate: this.reads === 0 ? 0 : this.hits / this.reads,
      bytes: Number(appended.bytes - state.trimmed.bytes),
      hotBytes: hot.bytes,
      duplicates: this.duplicates,
      logPosition: state.logPosition,
      trimmed: Number(state.trimmed.messages),
      lastTrim,
    };
  }

  /** As `MsgBuffer.excess`. */
  excess({ count, ageMs }: ExcessRules): Promise<bigint | undefined> {
    this.checkOpen();
    const beforeNs = ageMs === undefined ? undefined : BigInt(Date.now() - ageMs) * nsPerMs;
    return this.cold.excess({ count, beforeNs });
  }

  /** Waits for the appends and trims under way. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  /** As `CommitTarget`. */
  checkRoom(count: number): void {
    const total = Number(this.appended.messages - this.state.trimmed.messages);
    if (count === 0 || total + count <= this.totalMax) return;
    throw new BufferFull(
      `The buffer of ${this.component} is full: messages=${total}, ${count} more are to come, ` +
        `capacity=${this.totalMax}. Trim what nobody needs any more, or let it overwrite.`,
    );
  }

  /** As `CommitTarget`. */
  async commit(chunks: readonly Chunk[], logPosition: bigint | undefined): Promise<void> {
    if (this.failure !== undefined) throw this.failure as Error;
    let extent = this.appended;
    const joined = joinChunks(chunks);
    for (const chunk of joined) extent = stampExtent(chunk, extent);
    const durable = await this.written(this.cold.commit(joined, logPosition));
    reachedStep("buffer.durable");
    for (const chunk of durable) {
      this.hot.add(chunk);
      this.newestId = chunk.lastId;
    }
    this.appended = extent;
    if (logPosition !== undefined) this.state = { ...this.state, logPosition };
    this.wake();
  }

  /** As `CommitTarget`. */
  async withoutStored(incoming: Incoming): Promise<{ fresh: Incoming; duplicates: number }> {
    const { newestId } = this;
    if (incoming.prevId === newestId || incoming.count === 0) {
      return { fresh: incoming, duplicates: 0 };
    }
    const messages = incoming.chunks.flatMap(({ bytes }) => unpackChunk(bytes));
    const stored = await this.storedLike(messages);
    const duplicates = countStored(messages, stored, this.state.trimmedId, newestId);
    const fresh = packIncoming(messages.slice(duplicates), incoming.logPosition, newestId);
    if (fresh.prevId !== newestId) {
      throw new DataCorrupted(newestId, fresh.prevId, "A batch does not follow on what is stored");
    }
    return { fresh, duplicates };
  }

  /** What is stored from the first of the messages on, as far as they go, and is not trimmed. */
  private async storedLike(messages: readonly Message[]): Promise<Message[]> {
    const stored: Message[] = [];
    const { newestId } = this;
    const lastId = messages.at(-1)?.id ?? beginning;
    const limit = Math.min(messages.length, followMax);
    let next = messages[0]?.id ?? beginning;
    for (;;) {
      const { trimmedId } = this.state;
      if (next <= trimmedId) next = trimmedId + 1n;
      if (next > lastId || next > newestId) return stored;
      try {
        const batch = this.hot.read(next, limit) ?? (await this.readCold(next, limit));
        stored.push(...batch);
        next = lastIdOf(batch) + 1n;
      } catch (error) {
        // A trim has come in between: there is less to compare with.
        if (!(error instanceof DataTrimmed)) throw error;
      }
    }
  }

  private async readCold(fromId: bigint, limit: number): Promise<Batch> {
    const rows = await this.cold.read(fromId, limit);
    // A trim may have come in between, and deleted what was asked for.
    await this.checkRange(fromId);
    const messages: Message[] = [];
    try {
      for (const row of rows) {
        for (const message of unpackChunk(row)) {
          if (message.id >= fromId && messages.length < limit) messages.push(message);
        }
      }
    } catch (error) {
      throw corrupt(this.directory, describeError(error), error);
    }
    const fault = rangeFault(messages, fromId, limit);
    if (fault !== undefined) throw corrupt(this.directory, fault);
    assert(isBatch(messages), "an empty range passed for a right one");
    return messages;
  }

  private async trimBefore(beforeId: bigint, logPosition: bigint | undefined): Promise<number> {
    this.checkWritable();
    checkId("beforeId", beforeId);
    if (logPosition !== undefined) checkId("logPosition", logPosition);
    const throughId = beforeId === beginning ? beginning : beforeId - 1n;
    if (throughId > this.newestId) {
      throw new InvalidOperation(
        `The buffer of ${this.component} cannot be trimmed before id=${beforeId}: the newest ` +
          `durable message is id=${this.newestId}.`,
      );
    }
    if (throughId <= this.state.trimmedId && logPosition === undefined) return 0;
    const { state, deleted } = await this.written(this.cold.trim(throughId, logPosition));
    if (state.trimmedId !== this.state.trimmedId) this.oldestId = undefined;
    this.state = state;
    this.hot.trim(state.trimmedId);
    return deleted;
  }

  /** What failed once is not to be relied on again. */
  private async written<Result>(result: Promise<Result>): Promise<Result> {
    try {
      return await result;
    } catch (error) {
      this.failure ??= error;
      throw error;
    }
  }

  /** Resolves with the next commit, when the signal aborts and when the buffer is closed. */
  private changed(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.followers.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      this.followers.add(done);
      signal?.addEventListener("abort", done);
    });
  }

  private wake(): void {
    for (const follower of [...this.followers]) follower();
  }

  private async shutDown(): Promise<void> {
    this.wake();
    await this.commits.idle();
    await this.cold.close();
  }

  private async checkRange(fromId: bigint): Promise<void> {
    if (fromId > this.newestId || this.newestId === beginning) {
      throw new DataNotYetAvailable(fromId, this.newestId);
    }
    const { trimmedId } = this.state;
    if (trimmedId === beginning || fromId > trimmedId) return;
    throw new DataTrimmed(fromId, (await this.minId()) ?? trimmedId + 1n);
  }

  private checkWritable(): void {
    this.checkOpen();
    if (this.failure !== undefined) throw this.failure as Error;
  }

  private checkOpen(): void {
    if (!this.isClosed) return;
    throw new GaplessError("CLOSED", `The buffer of ${this.component} is closed.`);
  }
}
