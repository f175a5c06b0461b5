/** The caller's end of the worker that owns RocksDB. */
import path from "node:path";
import { Worker, type Transferable } from "node:worker_threads";
import { describeError, GaplessError } from "../errors.ts";
import type { Chunk } from "./chunk.ts";
import type { ColdAnswer, ColdRequest, ColdWorkerData } from "./cold-protocol.ts";

export interface ColdStore {
  /** What was durable at opening. */
  readonly lastId: bigint;
  readonly trimmedId: bigint;
  /** Makes the chunks durable. Takes their memory, and gives it back when that is done. */
  commit(chunks: readonly Chunk[]): Promise<readonly Chunk[]>;
  /** The bytes of the chunks that hold `limit` messages from `fromId` on, or fewer by bytes. */
  read(fromId: bigint, limit: number): Promise<readonly Uint8Array[]>;
  trim(throughId: bigint): Promise<void>;
  /** Behind the calls that are under way. */
  close(): Promise<void>;
}

/**
 * Opens or creates the cold tier in a thread of its own. The thread keeps the process alive only
 * while a call is under way.
 *
 * @throws GaplessError as `openBuffer`. Calls reject with CLOSED once the thread has died.
 */
export async function openColdStore(
  directory: string,
  startWorker: (data: ColdWorkerData) => Worker = startColdWorker,
): Promise<ColdStore> {
  const calls = new Calls(startWorker({ directory }), directory);
  const opened = await calls.opened();
  return {
    lastId: opened.lastId,
    trimmedId: opened.trimmedId,
    async commit(chunks) {
      const memory = chunks.map(({ bytes }) => bytes.buffer);
      return (await calls.call({ kind: "commit", chunks }, "committed", memory)).chunks;
    },
    async read(fromId, limit) {
      return (await calls.call({ kind: "read", fromId, limit }, "rows")).rows;
    },
    async trim(throughId) {
      await calls.call({ kind: "trim", throughId }, "trimmed");
    },
    async close() {
      await calls.close();
    },
  };
}

function startColdWorker(data: ColdWorkerData): Worker {
  // Sources run as .ts, the published build as .js, and tsc does not rewrite a URL.
  const url = new URL(`./cold-worker${path.extname(import.meta.url)}`, import.meta.url);
  return new Worker(url, { workerData: data, name: "gapless-buffer" });
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
          if (answer.kind === "failed") reject(new GaplessError(answer.code, answer.message));
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
