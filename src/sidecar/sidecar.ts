/**
 * A job in a thread of its own, beside a hot thread that never waits for it.
 *
 * What is asked goes through a queue with a bound, and a full one is an answer. A request counts
 * until it is done; where there is a reply or a failure to it, until that was taken or told. So
 * nothing grows where nobody looks, and a thread that spins looks at a counter, not at messages.
 *
 *     // At the hot thread.
 *     const module = siblingModule("preallocation-worker", import.meta.url);
 *     const sidecar = startSidecar<Order, Made>(module, undefined, { name, requestsMax: 4 });
 *     if (!sidecar.post(order)) …  // Full: it has that much to do already.
 *     const made = sidecar.take(); // Whenever it suits.
 *
 *     // preallocation-worker.ts, see serve-sidecar.ts.
 *     serveSidecar<Order, Made>((order) => make(order));
 */
import path from "node:path";
import { performance } from "node:perf_hooks";
import {
  MessageChannel,
  receiveMessageOnPort,
  Worker,
  type MessagePort,
} from "node:worker_threads";
import { describeError, GaplessError, type ErrorCode } from "../errors.ts";
import { statusWord, type Answer, type Letter, type SidecarData } from "./serve-sidecar.ts";

export interface SidecarOptions<Reply> {
  /** Of the thread, as debuggers and failures call it. */
  readonly name: string;
  /** Requests that may wait, be under way, or have an answer that was not taken yet. */
  readonly requestsMax: number;
  /** Told of each reply, as the event loop turns. Without it they are kept for `take`. */
  readonly onReply?: (reply: Reply) => void;
  /**
   * Told of a request that failed, and of a thread that ended with what it had to do: as the event
   * loop turns, or within `post` or `take`. Without it, failures are warnings of the process.
   */
  readonly onFailure?: (error: GaplessError) => void;
  /** What the thread's heap may grow to. One that needs more ends, and is started again. */
  readonly heapMegabytesMax?: number;
}

const defaultHeapMegabytesMax = 64;
const youngMegabytesMax = 16;
/** A thread that ended before it did anything is started again after so long. */
const restartPauseMs = 1000;

/** A thread from its start to its end. */
interface Thread {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly status: Int32Array;
  readonly startedMs: number;
  readonly exited: Promise<void>;
  posted: number;
  /** Replies and failures that have arrived. */
  heard: number;
  reason: string | undefined;
}

/** The module `name` beside the one whose `import.meta.url` is given: .ts, or .js once built. */
export function siblingModule(name: string, importMetaUrl: string): URL {
  return new URL(`./${name}${path.extname(importMetaUrl)}`, importMetaUrl);
}

/**
 * Prepares a thread that runs `module`, which calls `serveSidecar`. It is started by the first
 * request, and again by the next one after it has died. It keeps no process from ending: whoever
 * needs what it was asked for closes it first.
 *
 * @param data What the thread is given at each start, as `workerData` would be.
 */
export function startSidecar<Request, Reply = never>(
  module: URL,
  data: unknown,
  options: SidecarOptions<Reply>,
): Sidecar<Request, Reply> {
  return new Sidecar(module, data, options);
}

export class Sidecar<Request, Reply> implements AsyncDisposable {
  private readonly module: URL;
  private readonly data: unknown;
  private readonly options: SidecarOptions<Reply>;
  private readonly replies: Reply[] = [];
  private thread: Thread | undefined;
  private startNotBeforeMs = 0;
  private closing: Promise<void> | undefined;

  /** Use `startSidecar`. */
  constructor(module: URL, data: unknown, options: SidecarOptions<Reply>) {
    this.module = module;
    this.data = data;
    this.options = options;
  }

  /** Requests that are not done, or have an answer that was not taken. */
  get pending(): number {
    const { thread } = this;
    const waiting = this.replies.length;
    return thread === undefined ? waiting : waiting + thread.posted - answeredBy(thread);
  }

  /**
   * Hands a request over without waiting for anything. False where `requestsMax` are pending, and
   * after `close`; then nothing was asked. Never throws: what goes wrong is told to `onFailure`.
   */
  post(request: Request): boolean {
    if (this.closing !== undefined) return false;
    const thread = this.livingThread();
    if (thread === undefined || this.pending >= this.options.requestsMax) return false;
    try {
      thread.port.postMessage({ kind: "request", request } satisfies Letter<Request>);
      thread.posted++;
    } catch (error) {
      this.fail("SYSTEM_CALL_FAILED", `cannot be asked this: ${describeError(error)}.`);
    }
    return true;
  }

  /** The oldest reply that was not taken yet; undefined where there is none. */
  take(): Reply | undefined {
    const { thread } = this;
    if (this.replies.length === 0 && thread !== undefined) this.receive(thread, 1);
    return this.replies.shift();
  }

  /**
   * Ends the thread behind all that it was asked for, which may take as long as that takes. What
   * it replies can still be taken.
   */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async end(): Promise<void> {
    const { thread } = this;
    if (thread === undefined) return;
    thread.worker.ref();
    thread.port.postMessage({ kind: "close" } satisfies Letter<Request>);
    await thread.exited;
  }

  private livingThread(): Thread | undefined {
    const { thread } = this;
    // SYNC sidecar-ended: stored as the last that the thread does; pairs with serveSidecar.
    if (thread !== undefined && Atomics.load(thread.status, statusWord.ended) === 0) return thread;
    if (thread !== undefined) this.bury(thread);
    // Whoever was told of the failure may have asked again.
    if (this.thread !== undefined) return this.thread;
    if (performance.now() < this.startNotBeforeMs) return undefined;
    try {
      this.thread = this.start();
    } catch (error) {
      this.startNotBeforeMs = performance.now() + restartPauseMs;
      this.fail("SYSTEM_CALL_FAILED", `cannot be started: ${describeError(error)}.`);
    }
    return this.thread;
  }

  private start(): Thread {
    const { name, heapMegabytesMax = defaultHeapMegabytesMax } = this.options;
    const { port1: port, port2 } = new MessageChannel();
    const status = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
    const handed: SidecarData = { port: port2, status, data: this.data };
    const worker = new Worker(this.module, {
      name,
      workerData: handed,
      transferList: [port2],
      resourceLimits: {
        maxOldGenerationSizeMb: heapMegabytesMax,
        maxYoungGenerationSizeMb: youngMegabytesMax,
      },
      ...inheritedArguments(),
    });
    const exited = new Promise<void>((resolve) => {
      worker.on("exit", (code) => {
        thread.reason ??= `exit code ${code}`;
        this.bury(thread);
        resolve();
      });
    });
    const startedMs = performance.now();
    const thread: Thread = {
      worker,
      port,
      status,
      startedMs,
      exited,
      posted: 0,
      heard: 0,
      reason: undefined,
    };
    worker.on("error", (error) => {
      thread.reason = describeError(error);
      if (this.thread !== thread) this.fail("SYSTEM_CALL_FAILED", `had ended: ${thread.reason}.`);
    });
    port.on("message", (answer: Answer<Reply>) => this.hear(thread, answer, true));
    port.unref();
    worker.unref();
    return thread;
  }

  /** Takes in what has arrived without an event, through the `repliesMax`th reply. */
  private receive(thread: Thread, repliesMax: number): void {
    while (this.replies.length < repliesMax) {
      const letter = receiveMessageOnPort(thread.port) as { message: Answer<Reply> } | undefined;
      if (letter === undefined) return;
      this.hear(thread, letter.message, false);
    }
  }

  private hear(thread: Thread, answer: Answer<Reply>, isEvent: boolean): void {
    if (answer.kind !== "news") thread.heard++;
    if (answer.kind === "failed") {
      this.fail(answer.code, `failed: ${answer.text}`, answer.stack);
      return;
    }
    const { onReply } = this.options;
    if (isEvent && onReply !== undefined) onReply(answer.reply);
    else this.replies.push(answer.reply);
  }

  /** The thread has ended, or is about to: what it was asked and has not done is lost. */
  private bury(thread: Thread): void {
    if (this.thread !== thread) return;
    this.thread = undefined;
    const taken = this.replies.length;
    this.receive(thread, Infinity);
    const { onReply } = this.options;
    if (onReply !== undefined) this.replies.splice(taken).forEach(onReply);
    thread.port.close();
    const answered = answeredBy(thread);
    if (answered === 0) this.startNotBeforeMs = thread.startedMs + restartPauseMs;
    const lost = thread.posted - answered;
    if (lost <= 0 && this.closing !== undefined) return;
    this.fail(
      "PEER_UNAVAILABLE",
      `has ended with ${lost} requests not done: ${thread.reason ?? "it exited"}. ` +
        "The next request starts it again.",
    );
  }

  private fail(code: ErrorCode, text: string, stack?: string): void {
    const { name, onFailure } = this.options;
    const error = new GaplessError(code, `The thread ${name} ${text}`, { cause: stack });
    if (onFailure === undefined) process.emitWarning(error.message, { code, type: "Gapless" });
    else onFailure(error);
  }
}

function answeredBy(thread: Thread): number {
  // SYNC sidecar-done: what was done for a request is seen with it; pairs with serveSidecar.
  return thread.heard + Atomics.load(thread.status, statusWord.done);
}

/** A thread begins with the arguments of its process, but a file does not run with this one. */
function inheritedArguments(): { execArgv?: string[] } {
  const { execArgv } = process;
  if (!execArgv.some((argument) => argument.startsWith("--input-type"))) return {};
  return { execArgv: execArgv.filter((argument) => argument.startsWith("--conditions=")) };
}
