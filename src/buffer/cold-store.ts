/** The caller's end of the worker that owns RocksDB. */
import path from "node:path";
import { Worker, type Transferable } from "node:worker_threads";
import { describeError, GaplessError, type ErrorCode } from "../errors.ts";
import type { RangeDigest } from "./archive.ts";
import { StorageError } from "./buffer-errors.ts";
import type { Chunk } from "./chunk.ts";
import type {
  ColdAnswer,
  ColdOpened,
  ColdOptions,
  ColdRequest,
  Excess,
  Trimmed,
} from "./cold-protocol.ts";

export interface ColdStore {
  /** What was there at opening. */
  readonly opened: ColdOpened;
  /** Writes the chunks. Takes their memory, and gives it back when that is done. */
  commit(chunks: readonly Chunk[], logPosition?: bigint): Promise<readonly Chunk[]>;
  /** The bytes of the chunks that hold `limit` messages from `fromId` on, or fewer by bytes. */
  read(fromId: bigint, limit: number): Promise<readonly Uint8Array[]>;
  trim(throughId: bigint, logPosition?: bigint): Promise<Trimmed>;
  start(afterId: bigint): Promise<Trimmed>;
  /** Of the range, some messages at a time, so that nobody waits for it. */
  digest(fromId: bigint, throughId: bigint): Promise<RangeDigest>;
  /** Before which id everything is too much, by whole rows; undefined where nothing is. */
  excess(excess: Excess): Promise<bigint | undefined>;
  /** Behind the calls that are under way. */
  close(): Promise<void>;
}

/**
 * Opens or creates the cold tier in a thread of its own. The thread keeps the process alive only
 * while a call is under way.
 *
 * @throws GaplessError as `openMsgBuffer`. Calls reject with CLOSED once the thread has died.
 */
export async function openColdStore(
  options: ColdOptions,
  startWorker: (options: ColdOptions) => Worker = startColdWorker,
): Promise<ColdStore> {
  const calls = new Calls(startWorker(options), options.directory);
  const opened = await calls.opened();
  let digests = 0;
  return {
    opened,
    async commit(chunks, logPosition) {
      const memory = chunks.map(({ bytes }) => bytes.buffer);
      const request = { kind: "commit", chunks, ...(logPosition !== undefined && { logPosition }) };
      return (await calls.call(request as ColdRequest, "committed", memory)).chunks;
    },
    async read(fromId, limit) {
      return (await calls.call({ kind: "read", fromId, limit }, "rows")).rows;
    },
    async trim(throughId, logPosition) {
      const request = {
        kind: "trim",
        throughId,
        ...(logPosition !== undefined && { logPosition }),
      };
      return calls.call(request as ColdRequest, "trimmed");
    },
    async start(afterId) {
      return calls.call({ kind: "start", afterId }, "trimmed");
    },
    async digest(fromId, throughId) {
      const digest = digests++;
      let count = 0;
      let next = fromId;
      while (true) {
        const request = { kind: "digest", digest, fromId: next, throughId } as const;
        const step = await calls.call(request, "digested");
        count += step.count;
        if (step.sha256 !== undefined) return { count, sha256: step.sha256 };
        next = step.nextId ?? throughId + 1n;
      }
    },
    async excess(excess) {
      return (await calls.call({ kind: "excess", ...excess }, "excess")).beforeId;
    },
    async close() {
      await calls.close();
    },
  };
}

function startColdWorker(options: ColdOptions): Worker {
  // Sources run as .ts, the published build as .js, and tsc does not rewrite a URL.
  const url = new URL(`./cold-worker${path.extname(import.meta.url)}`, import.meta.url);
  return new Worker(url, { workerData: options, name: "gapless-buffer" });
}

type Answer<Kind extends ColdAnswer["kind"]> = Extract<ColdAnswer, { kind: Kind }>;

interface Waiting {
  readonly settle: (answer: ColdAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** Answers come in the order of the requests, so a queue matches them. */
class Calls {
  readonly #worker: Worker;
  readonly #directory: string;
  readonly #waiting: Waiting[] = [];
  readonly #exited: Promise<void>;
  #death: GaplessError | undefined;

  constructor(worker: Worker, directory: string) {
    this.#worker = worker;
    this.#directory = directory;
    worker.on("message", (answer: ColdAnswer) => {
      const call = this.#waiting.shift();
      if (this.#waiting.length === 0) worker.unref();
      call?.settle(answer);
    });
    worker.on("error", (error) => this.#die(describeError(error), error));
    this.#exited = new Promise((resolve) => {
      worker.on("exit", (code) => {
        this.#die(`exit code ${code}`);
        resolve();
      });
    });
  }

  async call<Kind extends ColdAnswer["kind"]>(
    request: ColdRequest,
    kind: Kind,
    transfer: readonly Transferable[] = [],
  ): Promise<Answer<Kind>> {
    if (this.#death !== undefined) throw this.#death;
    this.#worker.postMessage(request, transfer);
    return this.#expect(kind);
  }

  async opened(): Promise<Answer<"opened">> {
    try {
      return await this.#expect("opened");
    } catch (error) {
      // RocksDB's lock goes with the thread.
      this.#worker.ref();
      await this.#exited;
      throw error;
    }
  }

  #expect<Kind extends ColdAnswer["kind"]>(kind: Kind): Promise<Answer<Kind>> {
    if (this.#waiting.length === 0) this.#worker.ref();
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        reject,
        settle(answer) {
          if (answer.kind === "failed") reject(revive(answer.code, answer.message));
          else if (isKind(answer, kind)) resolve(answer);
          else reject(new Error(`Bug in gapless: a ${answer.kind} for a ${kind}`));
        },
      });
    });
  }

  async close(): Promise<void> {
    if (this.#death !== undefined) return;
    try {
      await this.call({ kind: "close" }, "closed");
    } finally {
      this.#worker.ref();
      await this.#exited;
    }
  }

  #die(reason: string, cause?: unknown): void {
    this.#death ??= new GaplessError(
      "CLOSED",
      `The thread of the buffer in ${this.#directory} has ended: ${reason}. Open the buffer again.`,
      { cause },
    );
    for (const { reject } of this.#waiting.splice(0)) reject(this.#death);
  }
}

function isKind<Kind extends ColdAnswer["kind"]>(
  answer: ColdAnswer,
  kind: Kind,
): answer is Answer<Kind> {
  return answer.kind === kind;
}

const storageCodes = new Set<ErrorCode>(["STORAGE_FULL", "STORAGE_CORRUPT", "SYSTEM_CALL_FAILED"]);

/** An error that has crossed from the worker. */
function revive(code: ErrorCode, message: string): GaplessError {
  return new (storageCodes.has(code) ? StorageError : GaplessError)(code, message);
}
