/**
 * The durable log: what must outlive the process, in a directory of memory-mapped segments.
 *
 *   await using queue = await openQueue({ directory: "/var/lib/exchange/trades" });
 *   queue.append(messages);        // survives SIGKILL of this process
 *   await queue.flush();           // survives power loss: now acknowledge upstream
 *   const batch = await queue.read(1n, 1000);
 */
import fs from "node:fs";
import path from "node:path";
import { assert, GaplessError } from "../errors.ts";
import { acquireLock } from "../memory/lock-file.ts";
import { syncDirectory } from "../memory/mapping.ts";
import type { Batch, Message } from "../message.ts";
import { pageBytes, segmentBytesMax } from "./layout.ts";
import { Reader } from "./reader.ts";
import { recover, type Recovered } from "./recovery.ts";
import { removeUnfinishedSegments } from "./segment.ts";
import { storageFailed } from "./storage-errors.ts";
import { Writer } from "./writer.ts";

export interface QueueOptions {
  /** Where the segments are. Made, with its parents, where it does not exist. */
  readonly directory: string;
  /**
   * Size of a segment file in bytes, 4 KiB to 1 GiB, rounded up to whole pages. Default 64 MiB.
   * Bounds the size of a message. May change from one opening to the next.
   */
  readonly segmentBytes?: number;
}

/** An open queue: one writer, and reading passes from any id. It satisfies flow's `Archive`. */
export interface Queue extends AsyncDisposable {
  /** Id of the newest message appended; 0n before the first. */
  readonly lastId: bigint;
  /** Id of the newest message that survives power loss; 0n before the first. */
  readonly durableId: bigint;

  /**
   * Appends messages that follow `lastId` and each other, all of them or none. When it returns,
   * they survive SIGKILL of this process, but not power loss: see `flush`. Blocks for tens of
   * milliseconds where a new segment is begun.
   *
   * @throws GaplessError CHAIN_BROKEN for a message that is not next, duplicates included;
   *   MESSAGE_TOO_LARGE; MESSAGE_MALFORMED where an id or a time does not fit 64 bits;
   *   STORAGE_FULL, after which the same call succeeds once there is room; CLOSED. After a failed
   *   flush, its SYSTEM_CALL_FAILED.
   */
  append(messages: readonly Message[]): void;

  /**
   * Makes durable what was appended before the call. Calls at the same time share their syncs.
   *
   * @throws GaplessError SYSTEM_CALL_FAILED where the device failed. That is final: what it lost
   *   cannot be told, so the queue takes nothing more until it is opened again.
   */
  flush(): Promise<void>;

  /**
   * Up to `limit` durable messages in chain order, beginning with the first whose id is at least
   * `fromId`; fewer where they take more than 16 MiB. What is appended but not durable is not
   * handed out: a power loss could take it back from under a reader that went on with it. The
   * `bytes` of a batch are views into one copy, which is the caller's.
   *
   * @throws GaplessError DATA_TRIMMED where something from `fromId` on is not kept any more;
   *   DATA_NOT_YET_AVAILABLE where nothing from `fromId` on is durable; STORAGE_CORRUPT where the
   *   first record of the range does not hold; CLOSED.
   */
  read(fromId: bigint, limit: number): Promise<Batch>;

  /** Oldest and newest id that can be read; null where there is none. @throws CLOSED. */
  bounds(): Promise<{ readonly minId: bigint; readonly maxId: bigint } | null>;

  /**
   * Flushes, closes, and lets others open it. Idempotent; calls under way complete first.
   *
   * @throws GaplessError what the flush threw; the queue is closed nevertheless.
   */
  close(): Promise<void>;
}

/**
 * Opens a queue for writing, and repairs what a crash left in it: afterwards everything that it
 * holds is durable.
 *
 * @throws GaplessError CONFIG_INVALID; ALREADY_OPEN with the process that has it; STORAGE_CORRUPT
 *   where what was durable, or could not have been lost in a crash, is damaged; STORAGE_FULL.
 */
export async function openQueue(options: QueueOptions): Promise<Queue> {
  const { directory, segmentBytes } = resolveOptions(options);
  const release = takeDirectory(directory);
  try {
    removeUnfinishedSegments(directory);
    return new MappedQueue(directory, segmentBytes, await recover(directory), release);
  } catch (error) {
    release();
    throw storageFailed(`opening the queue in ${directory}`, error);
  }
}

function takeDirectory(directory: string): () => void {
  try {
    makeDirectory(directory);
    return acquireLock(path.join(directory, "writer.lock"));
  } catch (error) {
    throw storageFailed(`taking ${directory}`, error);
  }
}

class MappedQueue implements Queue {
  readonly #directory: string;
  readonly #writer: Writer;
  readonly #reader: Reader;
  readonly #release: () => void;
  #closing: Promise<void> | null = null;

  constructor(directory: string, segmentBytes: number, recovered: Recovered, release: () => void) {
    this.#directory = directory;
    this.#writer = new Writer(directory, segmentBytes, recovered);
    this.#reader = new Reader(directory, recovered.prevIds);
    this.#release = release;
  }

  get lastId(): bigint {
    return this.#writer.lastId;
  }

  get durableId(): bigint {
    return this.#writer.durableId;
  }

  append(messages: readonly Message[]): void {
    this.#checkOpen();
    this.#writer.append(messages);
  }

  async flush(): Promise<void> {
    this.#checkOpen();
    await this.#writer.flush();
  }

  async read(fromId: bigint, limit: number): Promise<Batch> {
    assert(Number.isSafeInteger(limit) && limit > 0, `read with limit=${limit}`);
    this.#checkOpen();
    return this.#reader.read(fromId, limit, this.#writer.durableId);
  }

  async bounds(): Promise<{ readonly minId: bigint; readonly maxId: bigint } | null> {
    this.#checkOpen();
    const maxId = this.#writer.durableId;
    const minId = maxId === 0n ? null : this.#reader.oldestId();
    return minId === null ? null : { minId, maxId };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      await this.#writer.close();
    } finally {
      this.#reader.close();
      this.#release();
    }
  }

  #checkOpen(): void {
    if (this.#closing === null) return;
    throw new GaplessError("CLOSED", `The queue in ${this.#directory} is closed.`);
  }
}

const segmentBytesDefault = 64 * 1024 * 1024;

function resolveOptions(options: QueueOptions): Required<QueueOptions> {
  const { directory, segmentBytes = segmentBytesDefault } = options;
  if (typeof directory !== "string" || directory === "") {
    throw new GaplessError("CONFIG_INVALID", "A queue needs its directory: directory is empty.");
  }
  if (
    !Number.isSafeInteger(segmentBytes) ||
    segmentBytes < pageBytes ||
    segmentBytes > segmentBytesMax
  ) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `segmentBytes=${segmentBytes} of the queue in ${directory}: expected a whole number from ` +
        `${pageBytes} to ${segmentBytesMax}.`,
    );
  }
  return Object.freeze({
    directory: path.resolve(directory),
    segmentBytes: Math.ceil(segmentBytes / pageBytes) * pageBytes,
  });
}

/** Makes the directory so that its own name, and those of the parents made with it, last. */
function makeDirectory(directory: string): void {
  const first = fs.mkdirSync(directory, { recursive: true });
  if (first === undefined) return;
  const top = path.dirname(first);
  for (let made = directory; made !== top; made = path.dirname(made)) {
    syncDirectory(path.dirname(made));
  }
}
