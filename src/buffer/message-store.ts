/**
 * The messages of a buffer, in two tiers: the newest in memory, all of them in RocksDB.
 *
 *   append ─► RocksDB (durable) ─► ring ─► readers that follow
 *   read   ─► ring, or else RocksDB
 */
import { beginning } from "../chain.ts";
import { GaplessError } from "../errors.ts";
import type { Bounds } from "../flow/endpoints.ts";
import { lastIdOf, type Batch, type Message } from "../message.ts";
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
import { checkExcessRules, type BufferStats, type ExcessRules } from "./buffer-stats.ts";
import { joinChunks, stampExtent, unpackChunk, type Chunk, type Extent } from "./chunk.ts";
import { idMax } from "./cold-layout.ts";
import { openColdStore, type ColdStore } from "./cold-store.ts";
import { CommitQueue, type Appended, type CommitTarget } from "./commit-queue.ts";
import { countStored, packIncoming, type Incoming } from "./incoming.ts";
import { checkId, checkReadArguments } from "./range.ts";
import { Tiers } from "./tiers.ts";
import { unlessClosed } from "./unless-closed.ts";

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
  private readonly tiers: Tiers;
  private readonly commits = new CommitQueue(this);
  private readonly observers: Observers;
  /** Of the whole stream, trimmed messages too. */
  private appended: Extent;
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
    this.tiers = new Tiers(options.hot, cold, options.cold.directory);
    this.observers = observers;
    this.appended = cold.opened.appended;
  }

  get lastId(): bigint {
    return this.tiers.lastId;
  }

  get logPosition(): bigint {
    return this.tiers.state.logPosition;
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
        const incoming = packIncoming(messages, logPosition, this.lastId);
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
        const found = await this.tiers.read(fromId, limit);
        ({ tier } = found);
        this.reads++;
        if (tier === "hot") this.hits++;
        return found.batch;
      },
      (observer, ms, _result, error) => observer.queried?.(ms, tier, error),
    );
  }

  /** As many messages as there are, and `limit` at most: whatever their bytes. */
  async readAll(fromId: bigint, limit: number): Promise<Message[]> {
    const messages: Message[] = [...(await this.read(fromId, limit))];
    for (let last = messages.at(-1); last !== undefined; last = messages.at(-1)) {
      if (messages.length >= limit || last.id >= this.lastId) break;
      messages.push(...(await this.read(last.id + 1n, limit - messages.length)));
    }
    return messages;
  }

  async contains(id: bigint): Promise<boolean> {
    this.checkOpen();
    checkId("id", id);
    if (id > this.lastId || id <= this.tiers.state.trimmedId || id === beginning) return false;
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
    if (this.lastId === beginning) return null;
    return { minId: (await this.minId()) ?? this.lastId + 1n, maxId: this.lastId };
  }

  async status(): Promise<ArchiveStatus> {
    const minId = await this.minId();
    const maxId = this.lastId === beginning ? undefined : this.lastId;
    return { minId, maxId, logPosition: this.logPosition };
  }

  /** undefined where nothing is kept. */
  async minId(): Promise<bigint | undefined> {
    this.checkOpen();
    return this.tiers.minId();
  }

  async *follow(fromId: bigint, { signal }: FollowOptions = {}): AsyncGenerator<Batch, void, void> {
    checkId("fromId", fromId);
    let next = fromId === beginning ? 1n : fromId;
    while (signal?.aborted !== true && !this.isClosed) {
      if (next > this.lastId) {
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
        await this.tiers.checkRange(fromId);
        if (throughId > this.lastId) throw new DataNotYetAvailable(throughId, this.lastId);
        try {
          return await this.cold.digest(fromId, throughId);
        } finally {
          // A trim may have come in between, and deleted what was asked for.
          await this.tiers.checkRange(fromId);
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
    if (id === idMax) {
      throw new InvalidOperation(`Nothing can follow id=${id}, which a buffer was to start after.`);
    }
    await this.commits.between(async () => {
      this.checkWritable();
      const keepsNothing = this.tiers.state.trimmedId === this.lastId;
      if (!keepsNothing || id < this.lastId) {
        throw new InvalidOperation(
          `The buffer of ${this.component} cannot start after id=${id}: it has come to ` +
            `id=${this.lastId}, and keeps ${keepsNothing ? "nothing" : "some of it"}. One that ` +
            "keeps nothing can start further on: trim it to its end first.",
        );
      }
      const { state } = await this.written(this.cold.start(id));
      this.tiers.startedAfter(id, state);
    });
  }

  async stats(): Promise<BufferStats> {
    const minId = await this.minId();
    const { appended } = this;
    const { state, hotCount, hotBytes } = this.tiers;
    const total = Number(appended.messages - state.trimmed.messages);
    const { trimmedAtMs: atMs, trimmedLast: deleted } = state;
    const lastTrim = atMs === 0 ? undefined : { beforeId: state.trimmedId + 1n, deleted, atMs };
    return {
      component: this.component,
      total,
      hot: hotCount,
      cold: total - hotCount,
      minId,
      maxId: minId === undefined ? undefined : this.lastId,
      hitRate: this.reads === 0 ? 0 : this.hits / this.reads,
      bytes: Number(appended.bytes - state.trimmed.bytes),
      hotBytes,
      duplicates: this.duplicates,
      logPosition: state.logPosition,
      trimmed: Number(state.trimmed.messages),
      lastTrim,
    };
  }

  /** As `MsgBuffer.excess`. */
  excess(rules: ExcessRules): Promise<bigint | undefined> {
    this.checkOpen();
    checkExcessRules(rules);
    const { count, ageMs } = rules;
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
    const total = Number(this.appended.messages - this.tiers.state.trimmed.messages);
    if (count === 0 || total + count <= this.totalMax) return;
    if (count > this.totalMax) {
      throw new InvalidOperation(
        `An append of messages=${count} can never fit the buffer of ${this.component}, whose ` +
          `capacity=${this.totalMax}.`,
      );
    }
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
    this.tiers.added(durable, logPosition);
    this.appended = extent;
    this.wake();
  }

  /** As `CommitTarget`. */
  async withoutStored(incoming: Incoming): Promise<{ fresh: Incoming; duplicates: number }> {
    const { lastId } = this;
    if (incoming.prevId === lastId || incoming.count === 0) {
      return { fresh: incoming, duplicates: 0 };
    }
    const messages = incoming.chunks.flatMap(({ bytes }) => unpackChunk(bytes));
    const stored = await this.tiers.storedLike(messages);
    const duplicates = countStored(messages, stored, this.tiers.state.trimmedId, lastId);
    const fresh = packIncoming(messages.slice(duplicates), incoming.logPosition, lastId);
    if (fresh.prevId !== lastId) {
      throw new DataCorrupted(lastId, fresh.prevId, "A batch does not follow on what is stored");
    }
    return { fresh, duplicates };
  }

  private async trimBefore(beforeId: bigint, logPosition: bigint | undefined): Promise<number> {
    this.checkWritable();
    checkId("beforeId", beforeId);
    if (logPosition !== undefined) checkId("logPosition", logPosition);
    const throughId = beforeId === beginning ? beginning : beforeId - 1n;
    if (throughId > this.lastId) {
      throw new InvalidOperation(
        `The buffer of ${this.component} cannot be trimmed before id=${beforeId}: the newest ` +
          `durable message is id=${this.lastId}.`,
      );
    }
    if (throughId <= this.tiers.state.trimmedId && logPosition === undefined) return 0;
    const { state, deleted } = await this.written(this.cold.trim(throughId, logPosition));
    this.tiers.trimmed(state);
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

  private checkWritable(): void {
    this.checkOpen();
    if (this.failure !== undefined) throw this.failure as Error;
  }

  private checkOpen(): void {
    if (!this.isClosed) return;
    throw new GaplessError("CLOSED", `The buffer of ${this.component} is closed.`);
  }
}
