/**
 * A reader of a queue that may not exist yet, whose writer comes and goes.
 *
 *     waiting ──▶ connected ──▶ disconnected ──▶ waiting ──▶ connected ...
 *
 * It looks from time to time, says what it finds, and does nothing about it: what a disconnect is
 * worth is up to who listens. A look costs a file's status and a few loads, as long as all is well.
 */
import { EventEmitter } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { describeError, GaplessError, isGaplessError } from "../errors.ts";
import { silenceAt } from "../memory/heartbeat.ts";
import { checkOptions, checkSignal, type OptionNames } from "../arguments.ts";
import { controlFileName, openControl, readPosition, type Control } from "./control.ts";
import { resolveDirectory } from "./directory.ts";
import { controlOffset, segmentFileName } from "./layout.ts";
import { detectDisconnect, type DisconnectReason } from "./liveness.ts";
import { checkReaderName } from "./reader-file.ts";
import { openSubscriber, type Subscriber } from "./subscriber.ts";
import { resolveSubscriberOptions, type SubscriberOptions } from "./subscriber-options.ts";

export interface PassiveDiscoveryOptions {
  /** Between two looks. Default 100 milliseconds. */
  readonly pollIntervalMs?: number;
  /** A writer that was not seen at work for longer has gone silent. Default 1 second. */
  readonly ttlMs?: number;
  /** How the reader is opened. */
  readonly subscriber?: SubscriberOptions;
  /** Closes it. */
  readonly signal?: AbortSignal;
}

/** What is told, and with what. */
export interface PassiveDiscoveryEvents {
  /** There is no queue, or nobody writes to it. */
  waiting: [];
  /**
   * Somebody writes. The reader is the same as before where the queue is; where that was made anew,
   * or the reader was closed, it is a new one, and the one before is closed.
   */
  connected: [subscriber: Subscriber];
  /** Nobody writes any more. What is there can still be read. */
  disconnected: [reason: DisconnectReason];
  /** The reader cannot be opened. It is tried again; the same error is told once. */
  failure: [error: GaplessError];
}

/** The queue as it was opened: another file under its name is another queue. */
interface OpenQueue {
  readonly control: Control;
  readonly inode: bigint;
  subscriber: Subscriber | undefined;
}

const names = {
  pollIntervalMs: true,
  ttlMs: true,
  subscriber: true,
  signal: true,
} as const satisfies OptionNames<PassiveDiscoveryOptions>;
const pollIntervalMsDefault = 100;
const ttlMsDefault = 1000;
/** A living writer beats more often: for so long it is not looked at closely. */
const restMs = 300;
/** A reader that cannot be opened is tried again after so many intervals. */
const retryIntervals = 10;

/**
 * Polls for a queue and tells by events when somebody writes to it. The first look is at the next
 * turn of the event loop, so that listeners can be added before.
 *
 *     await using discovery = new PassiveDiscovery("/var/lib/exchange/trades", "ledger");
 *     discovery.on("connected", (subscriber) => follow(subscriber));
 *     discovery.on("disconnected", (reason) => alert(reason));
 */
export class PassiveDiscovery
  extends EventEmitter<PassiveDiscoveryEvents>
  implements AsyncDisposable
{
  readonly directory: string;
  readonly name: string;

  private readonly controlPath: string;
  private readonly pollIntervalMs: number;
  private readonly ttlMs: number;
  private readonly options: SubscriberOptions;
  private readonly signal: AbortSignal | undefined;
  private readonly abort = (): void => void this.close();
  private queue: OpenQueue | undefined;
  private timer: NodeJS.Timeout | undefined;
  private isConnected = false;
  private isWaitingTold = false;
  /** Of the writer that it is connected to. */
  private epoch = 0;
  private looks = 0;
  private retryAtLook = 0;
  private toldText: string | undefined;
  private closing: Promise<void> | undefined;

  /** @throws GaplessError CONFIG_INVALID */
  constructor(directory: string, name: string, options: PassiveDiscoveryOptions = {}) {
    super();
    checkOptions("PassiveDiscovery", options, names);
    const { pollIntervalMs = pollIntervalMsDefault, ttlMs = ttlMsDefault, signal } = options;
    this.directory = resolveDirectory(directory);
    checkReaderName(name);
    checkSignal(signal);
    resolveSubscriberOptions(this.directory, options.subscriber ?? {});
    this.name = name;
    this.controlPath = path.join(this.directory, controlFileName);
    this.pollIntervalMs = checkMs(this.directory, "pollIntervalMs", pollIntervalMs, 1);
    this.ttlMs = checkMs(this.directory, "ttlMs", ttlMs, 0);
    this.options = options.subscriber ?? {};
    this.signal = signal;
    if (signal?.aborted === true) this.closing = Promise.resolve();
    else this.schedule(0);
    signal?.addEventListener("abort", this.abort, { once: true });
  }

  /** Whether somebody writes, as far as it has looked. */
  get connected(): boolean {
    return this.isConnected;
  }

  /** Ends it, and closes its reader. Nothing is told afterwards. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async end(): Promise<void> {
    clearTimeout(this.timer);
    this.signal?.removeEventListener("abort", this.abort);
    this.isConnected = false;
    await this.forget();
  }

  private schedule(delayMs: number): void {
    this.timer = setTimeout(() => this.look(), delayMs);
  }

  private look(): void {
    // Before anything is told: a listener may throw.
    this.schedule(this.pollIntervalMs);
    this.looks++;
    if (this.isConnected && !this.isWell()) this.disconnectIfSo();
    if (!this.isConnected && this.closing === undefined) this.connectIfSo();
  }

  /** One file's status, and loads: where all is well, that is all there is to it. */
  private isWell(): boolean {
    const { queue } = this;
    if (queue === undefined) return false;
    const { words } = queue.control;
    const isThere =
      this.looks % 2 === 0 ? this.isSameQueue(queue) : this.isSegmentThere(queue.control);
    return (
      isThere &&
      this.epoch === Atomics.load(words, controlOffset.epoch / 4) &&
      Atomics.load(words, controlOffset.open / 4) === 1 &&
      silenceAt(words, controlOffset.heartbeat / 4) <= Math.min(restMs, this.ttlMs)
    );
  }

  private disconnectIfSo(): void {
    const { queue } = this;
    if (queue === undefined) return;
    const isReplaced = this.epoch !== Atomics.load(queue.control.words, controlOffset.epoch / 4);
    const lost = isReplaced ? "writer-lock-lost" : undefined;
    const isGone = !this.isSameQueue(queue);
    const reason = isGone ? "segment-missing" : (this.reasonFor(queue) ?? lost);
    if (reason === undefined) return;
    this.isConnected = false;
    this.isWaitingTold = false;
    this.emit("disconnected", reason);
  }

  private connectIfSo(): void {
    if (this.queue !== undefined && !this.isSameQueue(this.queue)) void this.forget();
    const queue = this.openQueue();
    const isWritten = queue !== undefined && this.reasonFor(queue) === undefined;
    const subscriber = isWritten ? this.openReader(queue) : undefined;
    if (queue !== undefined && subscriber !== undefined) {
      this.epoch = Atomics.load(queue.control.words, controlOffset.epoch / 4);
      this.isConnected = true;
      this.emit("connected", subscriber);
    } else if (!this.isWaitingTold) {
      this.isWaitingTold = true;
      this.emit("waiting");
    }
  }

  private openQueue(): OpenQueue | undefined {
    if (this.queue !== undefined || this.looks < this.retryAtLook) return this.queue;
    const inode = this.inodeOf(this.controlPath);
    if (inode === undefined) return undefined;
    try {
      const control = openControl(this.directory, "read");
      this.queue = { control, inode, subscriber: undefined };
    } catch (error) {
      this.fail(error);
    }
    return this.queue;
  }

  /** The reader that there is, if nobody has closed it. */
  private openReader(queue: OpenQueue): Subscriber | undefined {
    if (queue.subscriber?.isClosed === false) return queue.subscriber;
    if (this.looks < this.retryAtLook) return undefined;
    try {
      queue.subscriber = openSubscriber(this.directory, this.name, this.options);
      this.toldText = undefined;
      return queue.subscriber;
    } catch (error) {
      this.fail(error);
      return undefined;
    }
  }

  /** Removed since, or just being made: that is no failure. */
  private fail(error: unknown): void {
    if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return;
    this.retryAtLook = this.looks + retryIntervals;
    const text = describeError(error);
    if (text === this.toldText) return;
    this.toldText = text;
    const told = isGaplessError(error) ? error : new GaplessError("SYSTEM_CALL_FAILED", text);
    if (!this.emit("failure", told)) {
      process.emitWarning(text, { code: told.code, type: "Gapless" });
    }
  }

  private async forget(): Promise<void> {
    const { queue } = this;
    this.queue = undefined;
    queue?.control.mapping.unmap();
    await queue?.subscriber?.close();
  }

  private reasonFor({ control }: OpenQueue): DisconnectReason | undefined {
    return detectDisconnect(control, this.directory, this.ttlMs);
  }

  private isSameQueue({ inode }: OpenQueue): boolean {
    return this.inodeOf(this.controlPath) === inode;
  }

  private isSegmentThere(control: Control): boolean {
    const number = readPosition(control)?.segment ?? 0;
    const file = path.join(this.directory, segmentFileName(number));
    return number === 0 || this.inodeOf(file) !== undefined;
  }

  private inodeOf(filePath: string): bigint | undefined {
    try {
      return fs.statSync(filePath, { throwIfNoEntry: false, bigint: true })?.ino;
    } catch (error) {
      this.fail(error);
      return undefined;
    }
  }
}

function checkMs(directory: string, name: string, value: number, least: number): number {
  if (typeof value === "number" && value >= least && value < 2 ** 31) return value;
  throw new GaplessError(
    "CONFIG_INVALID",
    `${name}=${value} of the discovery of ${directory}: expected milliseconds, ${least} or more.`,
  );
}
