/** The events of one component: what the application sees of its messages. */
import type { Link } from "../chain.ts";
import { describeError } from "../errors.ts";
import type { Sink } from "../flow/endpoints.ts";
import type { Message } from "../message.ts";
import type { BufferArchive, FollowOptions } from "./archive.ts";
import { StorageError } from "./buffer-errors.ts";
import { Observers, type BufferObserver } from "./buffer-observer.ts";
import { resolveBufferOptions, type MsgBufferOptions } from "./buffer-options.ts";
import type { BufferStats, ExcessRules } from "./buffer-stats.ts";
import { messageOf, type Codec } from "./codec.ts";
import type { Appended } from "./commit-queue.ts";
import {
  readBufferLosses,
  recordBufferLoss,
  type BufferLoss,
  type BufferLosses,
  type LossRecorder,
} from "./loss-ledger.ts";
import { openMessageStore, type MessageStore } from "./message-store.ts";
import { MsgReader } from "./msg-reader.ts";

export interface LogOptions {
  /**
   * Of a replicated log, where this command is. It is stored in the same write, so that after a
   * crash `logPosition` says whether the command was carried out.
   */
  readonly logPosition?: bigint;
}

/**
 * Opens the buffer of a component, or creates it. One process at a time has it open; RocksDB runs
 * in a thread of its own.
 *
 *     await using trades = await openMsgBuffer({
 *       component: "matching-engine",
 *       storage: { dbPath: "/var/lib/exchange" },
 *     });
 *     await trades.append(messages); // durable when this resolves
 *     const missed = await trades.sync(lastSeen + 1n, 1000);
 *
 * @throws GaplessError CONFIG_INVALID; ALREADY_OPEN; STORAGE_CORRUPT, also where RocksDB would open
 *   but has lost what was acknowledged; STORAGE_FULL; PLATFORM_UNSUPPORTED
 */
export async function openMsgBuffer<Event extends Link = Message>(
  options: MsgBufferOptions<Event>,
): Promise<MsgBuffer<Event>> {
  const { codec, ...resolved } = resolveBufferOptions(options);
  const observers = new Observers();
  return new MsgBuffer(await openMessageStore(resolved, observers), codec, observers);
}

export class MsgBuffer<Event extends Link = Message> implements LossRecorder, AsyncDisposable {
  private readonly store: MessageStore;
  private readonly codec: Codec<Event>;
  private readonly observers: Observers;
  /** Since the opening: whoever recorded one before may have died before anybody heard of it. */
  private readonly toldLosses = new Set<string>();

  /** Use `openMsgBuffer`. */
  constructor(store: MessageStore, codec: Codec<Event>, observers: Observers) {
    this.store = store;
    this.codec = codec;
    this.observers = observers;
  }

  get component(): string {
    return this.store.component;
  }

  /** What is kept, as messages: for peers, and for whoever fills a gap from here. */
  get archive(): BufferArchive {
    return this.store;
  }

  /** Id of the newest event that ever became durable, trimmed or not; 0n before the first. */
  get lastId(): bigint {
    return this.store.lastId;
  }

  /** Of the replicated log, through where it has been applied; 0n before. */
  get logPosition(): bigint {
    return this.store.logPosition;
  }

  /**
   * Keeps events that follow one another and what is there, all of them or none, and resolves when
   * they are durable. Those that are stored already, with the same bytes, are passed over and
   * counted. Appends may overlap: they keep their order, and those that wait share a write. The
   * bytes are copied before this returns.
   *
   * After a rejection with STORAGE_FULL or SYSTEM_CALL_FAILED the events may or may not be there
   * once the buffer is opened again, and until then every write is rejected the same way; reads go
   * on.
   *
   * @throws GaplessError DataCorrupted where they do not follow, or come with other bytes;
   *   BufferFull; MESSAGE_TOO_LARGE, MESSAGE_MALFORMED; STORAGE_FULL, SYSTEM_CALL_FAILED; CLOSED
   */
  async append(events: readonly Event[], options: LogOptions = {}): Promise<Appended> {
    const messages = events.map((event) => messageOf(event, this.codec));
    return this.store.append(messages, options.logPosition);
  }

  /**
   * Events in ascending order from the first whose id is at least `startId`: `limit` of them, or
   * all there are where those are fewer. Never a range with a hole in it.
   *
   * @throws GaplessError DataTrimmed, DataNotYetAvailable; InvalidOperation; STORAGE_CORRUPT
   */
  async sync(startId: bigint, limit: number): Promise<Event[]> {
    return this.decodeAll(await this.store.readAll(startId, limit));
  }

  /**
   * Gives up everything before an id for good, durably, and returns how many events that were.
   * What lies further back than the last trim is no error and deletes nothing.
   *
   * @throws GaplessError InvalidOperation beyond the newest event; as `append`
   */
  trim(beforeId: bigint, options: LogOptions = {}): Promise<number> {
    return this.store.trim(beforeId, options.logPosition);
  }

  /**
   * Lets a buffer begin behind an id instead of at the beginning of the stream: what came before
   * is as if trimmed. One that was trimmed to its end goes on there, behind what is lost for good.
   *
   * @throws GaplessError InvalidOperation where it keeps anything, or has been further; for the
   *   greatest id, which nothing follows
   */
  startAfter(id: bigint): Promise<void> {
    return this.store.startAfter(id);
  }

  /** The newest id that is durable; undefined where nothing is kept. */
  async maxId(): Promise<bigint | undefined> {
    const isEmpty = (await this.store.minId()) === undefined;
    return isEmpty ? undefined : this.store.lastId;
  }

  /** The oldest id that is kept; undefined where none is. */
  minId(): Promise<bigint | undefined> {
    return this.store.minId();
  }

  /** Whether an event with that very id is kept. */
  contains(id: bigint): Promise<boolean> {
    return this.store.contains(id);
  }

  /**
   * Before which id everything is too much; undefined where nothing is. The newest event is not,
   * nor is one that shares a row of RocksDB, of 64 KiB at most, with one that is not. Exact after
   * a restart too, and its cost hardly grows with how much there is.
   *
   * @throws GaplessError CONFIG_INVALID; STORAGE_CORRUPT; CLOSED
   */
  async excess(rules: ExcessRules): Promise<bigint | undefined> {
    return this.store.excess(rules);
  }

  stats(): Promise<BufferStats> {
    return this.store.stats();
  }

  reader(startId: bigint): MsgReader<Event> {
    return new MsgReader(this.store, (message) => this.decode(message), startId);
  }

  /**
   * Everything from the first event whose id is at least `fromId`, past and to come, in batches,
   * until the signal aborts or the buffer is closed.
   *
   * @throws GaplessError DataTrimmed, also later: where a trim overtakes a slow reader
   */
  async *follow(fromId: bigint, options?: FollowOptions): AsyncGenerator<Event[], void, void> {
    for await (const batch of this.store.follow(fromId, options)) yield this.decodeAll(batch);
  }

  /** Where a pump can put messages: its position is the newest id. */
  sink(): Sink {
    const { store } = this;
    return {
      position: () => Promise.resolve(store.lastId),
      async apply(batch) {
        await store.append(batch);
      },
    };
  }

  /**
   * Records durably that somebody is not going to get something; what was recorded before, for the
   * same consumer, once.
   *
   * @throws InvalidOperation for what is no loss; GaplessError STORAGE_FULL
   */
  recordLoss(loss: BufferLoss): void {
    const isNew = recordBufferLoss(this.store.directory, loss);
    const { cause, consumer, fromId, throughId } = loss;
    const what = `${cause} ${consumer} ${fromId} ${throughId}`;
    if (!isNew && this.toldLosses.has(what)) return;
    this.toldLosses.add(what);
    this.observers.tell((observer) => observer.lost?.(loss));
  }

  /** All losses that were recorded. @throws GaplessError SYSTEM_CALL_FAILED */
  losses(): BufferLosses {
    return readBufferLosses(this.store.directory);
  }

  /** Tells `observer` of every append, read and trim until it is disposed. */
  observe(observer: BufferObserver): Disposable {
    return this.observers.add(observer);
  }

  /** Waits for the appends and trims under way. Idempotent. */
  close(): Promise<void> {
    return this.store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private decodeAll(messages: readonly Message[]): Event[] {
    return messages.map((message) => this.decode(message));
  }

  private decode(message: Message): Event {
    try {
      return this.codec.decode(message);
    } catch (cause) {
      const error = new StorageError(
        "STORAGE_CORRUPT",
        `id=${message.id} of ${this.component} cannot be decoded: ${describeError(cause)}. It ` +
          "was written with another codec, or by another version of the application.",
        { cause },
      );
      this.observers.tell((observer) => observer.queried?.(0, undefined, error));
      throw error;
    }
  }
}
