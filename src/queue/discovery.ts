/**
 * Queues and readers that come and go below a directory.
 *
 * A thread looks for them, opens and checks what is new, and hands it over ready: with a name to
 * read as, each new queue comes as a subscriber that is where it begins, and to take it over is no
 * system call. Nothing is missed: what could not be told in time is still there at the next look.
 */
import { describeError, GaplessError } from "../errors.ts";
import { checkFunctions, checkOptions, checkWhole, type OptionNames } from "../arguments.ts";
import { resolveDirectory } from "./directory.ts";
import { adoptSubscriber, type HandedSubscriber } from "./hand-over.ts";
import type { QueueLoss } from "./loss-ledger.ts";
import { checkReaderName } from "./reader-file.ts";
import { RoundsSidecar } from "../sidecar/rounds.ts";
import { siblingModule } from "../sidecar/sidecar.ts";
import type { Subscriber } from "./subscriber.ts";
import { resolveSubscriberOptions, type SubscriberOptions } from "./subscriber-options.ts";

/** A queue that is whole as far as its headers say. */
export interface FoundQueue {
  readonly directory: string;
  /** Random, of this queue alone. */
  readonly identity: bigint;
  /** How many segments it has, and the newest sequence. */
  readonly segments: number;
  readonly lastSequence: number;
  /** Whether somebody has it open to write. */
  readonly isWritten: boolean;
}

/** Whoever reads a queue, or has read it. */
export interface FoundReader {
  readonly directory: string;
  readonly name: string;
}

/** What is to be told, and how it is looked for. */
export interface WatchOptions {
  /** Told of each queue that is there, and of each that comes. */
  readonly onQueue?: (queue: FoundQueue) => void;
  /** Told of each reader of such a queue. */
  readonly onReader?: (reader: FoundReader) => void;
  /** Told of a queue that is gone, or replaced by another, with its readers. */
  readonly onGone?: (directory: string) => void;
  /** Told of a reader that is gone. */
  readonly onReaderGone?: (reader: FoundReader) => void;
  /** Each queue is opened to be read as this name, and told to `onSubscriber`. */
  readonly subscribeAs?: string;
  readonly subscriber?: SubscriberOptions;
  /** Given a reader that is ready; it is the callee's to close. */
  readonly onSubscriber?: (subscriber: Subscriber) => void;
  /**
   * Told of what is no whole queue, of one that cannot be read, and of a directory that cannot be
   * looked into. It is tried again, and told once. Without it, that is a warning of the process.
   */
  readonly onFailure?: (error: GaplessError) => void;
  /** Between two looks, where nothing tells that there is something new. Default 1 second. */
  readonly pollIntervalMs?: number;
  /** Whether the system's word on changes (inotify) is heard as well. Default true. */
  readonly inotify?: boolean;
  /** How many directories below `root` a queue may be. Default 4. */
  readonly depth?: number;
}

/** A watch that is running. */
export interface QueueWatch extends AsyncDisposable {
  /** Has it look soon. */
  nudge(): void;
  /** Ends it. Nothing is told afterwards. */
  close(): Promise<void>;
}

/** What the thread is given. */
export interface DiscoveryTask {
  readonly root: string;
  readonly depth: number;
  readonly inotify: boolean;
  readonly subscribeAs: string | undefined;
  readonly subscriber: Omit<SubscriberOptions, "onLoss">;
}

/** A piece of what it tells. */
export type Discovered =
  | { readonly kind: "queue"; readonly queue: FoundQueue }
  | { readonly kind: "reader"; readonly reader: FoundReader }
  | { readonly kind: "gone"; readonly directory: string }
  | { readonly kind: "reader gone"; readonly reader: FoundReader }
  | { readonly kind: "failed"; readonly code: GaplessError["code"]; readonly text: string }
  | {
      readonly kind: "subscriber";
      readonly handed: HandedSubscriber;
      readonly losses: readonly QueueLoss[];
    };

const pollIntervalMsDefault = 1000;
const depthDefault = 4;

const names = {
  onQueue: true,
  onReader: true,
  onGone: true,
  onReaderGone: true,
  subscribeAs: true,
  subscriber: true,
  onSubscriber: true,
  onFailure: true,
  pollIntervalMs: true,
  inotify: true,
  depth: true,
} as const satisfies OptionNames<WatchOptions>;

/**
 * Watches for queues below `root`, which may not exist yet, until it is closed. Links are not
 * followed. It keeps no process from ending.
 *
 *     await using watch = watchQueues("/var/lib/exchange", {
 *       subscribeAs: "risk",
 *       onSubscriber: (subscriber) => fanIn.add(subscriber, subscriber.directory),
 *     });
 *
 * @throws GaplessError CONFIG_INVALID
 */
export function watchQueues(root: string, options: WatchOptions): QueueWatch {
  const folder = resolveDirectory(root);
  checkOptions("watchQueues", options, names);
  const { pollIntervalMs = pollIntervalMsDefault, depth = depthDefault, subscribeAs } = options;
  checkNumber(folder, "pollIntervalMs", pollIntervalMs, 1);
  checkWhole("depth", depth, 0, Number.MAX_SAFE_INTEGER);
  checkFunctions(options, "onQueue", "onReader", "onGone", "onReaderGone");
  checkFunctions(options, "onSubscriber", "onFailure");
  if ((subscribeAs === undefined) !== (options.onSubscriber === undefined)) {
    throw new GaplessError(
      "CONFIG_INVALID",
      "subscribeAs and onSubscriber go together: nobody else would close what is opened.",
    );
  }
  if (subscribeAs !== undefined) checkReaderName(subscribeAs);
  resolveSubscriberOptions(folder, options.subscriber ?? {});
  const { onLoss: _onLoss, ...subscriber } = options.subscriber ?? {};
  const task: DiscoveryTask = {
    root: folder,
    depth,
    inotify: options.inotify ?? true,
    subscribeAs,
    subscriber,
  };
  const module = siblingModule("discovery-worker", import.meta.url);
  const onFailure = options.onFailure ?? warn;
  return new RoundsSidecar<readonly Discovered[]>(module, task, {
    name: "gapless-discovery",
    intervalMs: pollIntervalMs,
    onNews: (news) => news.forEach((one) => tell(one, { ...options, onFailure })),
    onUnheard: (news) => news.forEach(drop),
    onFailure,
  });
}

function tell(news: Discovered, options: WatchOptions): void {
  const { onQueue, onReader, onGone, onReaderGone, onFailure } = options;
  if (news.kind === "queue") onQueue?.(news.queue);
  else if (news.kind === "reader") onReader?.(news.reader);
  else if (news.kind === "gone") onGone?.(news.directory);
  else if (news.kind === "reader gone") onReaderGone?.(news.reader);
  else if (news.kind === "failed") onFailure?.(new GaplessError(news.code, news.text));
  else tellSubscriber(news, options);
}

function tellSubscriber(
  { handed, losses }: Extract<Discovered, { kind: "subscriber" }>,
  { subscriber: subscriberOptions = {}, onSubscriber, onFailure }: WatchOptions,
): void {
  let subscriber: Subscriber;
  try {
    subscriber = adoptSubscriber(handed, subscriberOptions);
  } catch (error) {
    const told = new GaplessError("STORAGE_CORRUPT", describeError(error), { cause: error });
    onFailure?.(told);
    return;
  }
  for (const loss of losses) subscriberOptions.onLoss?.(loss);
  onSubscriber?.(subscriber);
}

/** What nobody takes any more is closed. */
function drop(news: Discovered): void {
  if (news.kind === "subscriber") void adoptSubscriber(news.handed).close();
}

function warn(error: GaplessError): void {
  process.emitWarning(error.message, { code: error.code, type: "Gapless" });
}

function checkNumber(root: string, name: string, value: number, least: number): void {
  if (typeof value === "number" && value >= least) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    `${name}=${value} of the watch over ${root}: expected a number, ${least} or more.`,
  );
}
