/**
 * The two tiers as one range: the newest messages in memory, all of them in RocksDB.
 *
 *   trimmed          cold only             hot as well
 *   [1 . . . 20]  [21 . . . . . 90]  [91 . . . . . 120]
 *                  oldest                        newest
 */
import { beginning } from "../chain.ts";
import { assert, describeError } from "../errors.ts";
import { isBatch, lastIdOf, type Batch, type Message } from "../message.ts";
import { DataNotYetAvailable, DataTrimmed } from "./buffer-errors.ts";
import type { Tier } from "./buffer-observer.ts";
import { unpackChunk, type Chunk } from "./chunk.ts";
import { corrupt } from "./cold-errors.ts";
import type { ColdState } from "./cold-layout.ts";
import type { ColdStore } from "./cold-store.ts";
import { HotRing, type HotLimits } from "./hot-ring.ts";
import { rangeFault } from "./range.ts";

/** Messages that are compared at a time. */
const compareMax = 1024;

export class Tiers {
  private readonly hot: HotRing;
  private readonly cold: ColdStore;
  private readonly directory: string;
  /** Durable and visible. */
  private newestId: bigint;
  private known: ColdState;
  /** Oldest message there is, as far as it has been looked up since the last trim. */
  private oldestId: bigint | undefined;

  constructor(limits: HotLimits, cold: ColdStore, directory: string) {
    this.hot = new HotRing(limits);
    this.cold = cold;
    this.directory = directory;
    this.newestId = cold.opened.lastId;
    this.known = cold.opened.state;
  }

  get lastId(): bigint {
    return this.newestId;
  }

  get state(): ColdState {
    return this.known;
  }

  get hotCount(): number {
    return this.hot.count;
  }

  get hotBytes(): number {
    return this.hot.bytes;
  }

  /** Takes what has become durable. */
  added(chunks: readonly Chunk[], logPosition: bigint | undefined): void {
    for (const chunk of chunks) {
      this.hot.add(chunk);
      this.newestId = chunk.lastId;
    }
    if (logPosition !== undefined) this.known = { ...this.known, logPosition };
  }

  trimmed(state: ColdState): void {
    if (state.trimmedId !== this.known.trimmedId) this.oldestId = undefined;
    this.known = state;
    this.hot.trim(state.trimmedId);
  }

  startedAfter(id: bigint, state: ColdState): void {
    this.known = state;
    this.newestId = id;
  }

  /** Of the tier that has the first message; fewer than `limit` by bytes. */
  async read(fromId: bigint, limit: number): Promise<{ batch: Batch; tier: Tier }> {
    await this.checkRange(fromId);
    const hot = this.hot.read(fromId, limit);
    if (hot !== null) return { batch: hot, tier: "hot" };
    return { batch: await this.readCold(fromId, limit), tier: "cold" };
  }

  /** undefined where nothing is kept. */
  async minId(): Promise<bigint | undefined> {
    while (this.oldestId === undefined) {
      const { trimmedId } = this.known;
      if (trimmedId === this.newestId) return undefined;
      try {
        const hot = this.hot.read(trimmedId + 1n, 1);
        const [oldest] = hot ?? (await this.readCold(trimmedId + 1n, 1));
        if (trimmedId === this.known.trimmedId) this.oldestId = oldest.id;
      } catch (error) {
        // A trim has come in between, and moved what was looked for.
        if (!(error instanceof DataTrimmed)) throw error;
      }
    }
    return this.oldestId;
  }

  /** What is stored from the first of the messages on, as far as they go, and is not trimmed. */
  async storedLike(messages: readonly Message[]): Promise<Message[]> {
    const stored: Message[] = [];
    const { newestId } = this;
    const lastId = messages.at(-1)?.id ?? beginning;
    const limit = Math.min(messages.length, compareMax);
    let next = messages[0]?.id ?? beginning;
    for (;;) {
      const { trimmedId } = this.known;
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

  /** @throws DataTrimmed, DataNotYetAvailable where nothing can be read from there on */
  async checkRange(fromId: bigint): Promise<void> {
    if (fromId > this.newestId || this.newestId === beginning) {
      throw new DataNotYetAvailable(fromId, this.newestId);
    }
    const { trimmedId } = this.known;
    if (trimmedId === beginning || fromId > trimmedId) return;
    throw new DataTrimmed(fromId, (await this.minId()) ?? trimmedId + 1n);
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
}
