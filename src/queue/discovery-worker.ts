/** The thread that looks for queues, and opens what it finds. */
import path from "node:path";
import { describeError, GaplessError, isGaplessError } from "../errors.ts";
import { hasLiveWriter, openControl } from "./control.ts";
import type { Discovered, DiscoveryTask, FoundQueue } from "./discovery.ts";
import { nextSequence } from "./finding.ts";
import type { QueueLoss } from "./loss-ledger.ts";
import { lookAtTree, type SeenQueue, type SeenTree } from "./queue-tree.ts";
import { listSegments } from "./segment.ts";
import { serveRounds, type Rounds } from "../sidecar/serve-rounds.ts";
import { openBegun, type QueueFiles } from "./spot.ts";
import { openSubscriber } from "./subscriber.ts";
import { TreeWatch } from "./tree-watch.ts";

/** So much is told at once; the rest once that was heard. */
const newsMax = 256;

/** What was told of a queue. */
interface Told {
  readonly key: string;
  readonly readers: Set<string>;
  isSubscribed: boolean;
}

class Discovering implements Rounds<readonly Discovered[]> {
  private readonly task: DiscoveryTask;
  private readonly treeWatch: TreeWatch;
  private readonly told = new Map<string, Told>();
  /** What is known to be wrong, by its place. */
  private readonly failures = new Map<string, string>();
  private seen: SeenTree = { queues: new Map(), refused: new Map() };

  constructor(task: DiscoveryTask, nudge: () => void) {
    this.task = task;
    this.treeWatch = new TreeWatch(nudge);
  }

  round(): void {
    const { root, depth, inotify } = this.task;
    const watcher = inotify ? this.treeWatch : { watch: () => undefined };
    this.seen = lookAtTree(root, depth, watcher);
    this.treeWatch.forgetOthers();
  }

  /** The difference between what is there and what was told. */
  takeNews(): readonly Discovered[] | undefined {
    const news: Discovered[] = [];
    const { queues, refused } = this.seen;
    for (const [directory, { key }] of this.told) {
      if (queues.get(directory)?.key === key) continue;
      this.told.delete(directory);
      this.failures.delete(directory);
      news.push({ kind: "gone", directory });
    }
    for (const directory of this.failures.keys()) {
      if (!queues.has(directory) && !refused.has(directory)) this.failures.delete(directory);
    }
    for (const [directory, reason] of refused) this.fail(news, directory, new Error(reason));
    for (const [directory, queue] of queues) {
      if (news.length >= newsMax) break;
      this.tellOf(news, directory, queue);
    }
    return news.length > 0 ? news : undefined;
  }

  close(): void {
    this.treeWatch.close();
  }

  private tellOf(news: Discovered[], directory: string, queue: SeenQueue): void {
    try {
      let told = this.told.get(directory);
      if (told === undefined) {
        news.push({ kind: "queue", queue: inspect(directory) });
        told = { key: queue.key, readers: new Set(), isSubscribed: false };
        this.told.set(directory, told);
      }
      tellReaders(news, directory, queue, told);
      if (!told.isSubscribed) this.subscribe(news, directory, told);
      this.failures.delete(directory);
    } catch (error) {
      this.fail(news, directory, error);
    }
  }

  private subscribe(news: Discovered[], directory: string, told: Told): void {
    const { subscribeAs, subscriber: options } = this.task;
    if (subscribeAs === undefined) return;
    const losses: QueueLoss[] = [];
    const onLoss = (loss: QueueLoss): void => void losses.push(loss);
    const subscriber = openSubscriber(directory, subscribeAs, { ...options, onLoss });
    news.push({ kind: "subscriber", handed: subscriber.handOver(), losses });
    told.isSubscribed = true;
  }

  private fail(news: Discovered[], directory: string, error: unknown): void {
    // Removed since, or just being made.
    if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return;
    const text = describeError(error);
    if (this.failures.get(directory) === text) return;
    this.failures.set(directory, text);
    const code = error instanceof GaplessError ? error.code : "SYSTEM_CALL_FAILED";
    news.push({ kind: "failed", code, text });
  }
}

function tellReaders(news: Discovered[], directory: string, queue: SeenQueue, told: Told): void {
  for (const name of queue.readers) {
    if (told.readers.has(name)) continue;
    told.readers.add(name);
    news.push({ kind: "reader", reader: { directory, name } });
  }
  for (const name of told.readers) {
    if (queue.readers.includes(name)) continue;
    told.readers.delete(name);
    news.push({ kind: "reader gone", reader: { directory, name } });
  }
}

/** @throws GaplessError STORAGE_CORRUPT */
function inspect(directory: string): FoundQueue {
  const control = openControl(directory, "read");
  try {
    const queue: QueueFiles = { directory, control };
    checkNewest(queue);
    return {
      directory: path.resolve(directory),
      identity: control.identity,
      segments: listSegments(directory).length,
      lastSequence: nextSequence(queue) - 1,
      isWritten: hasLiveWriter(control),
    };
  } finally {
    control.mapping.unmap();
  }
}

/** Of a queue into which nothing was written yet there is none. */
function checkNewest(queue: QueueFiles): void {
  for (const number of listSegments(queue.directory).reverse()) {
    const begun = openBegun(queue, number);
    begun?.segment.mapping.unmap();
    if (begun !== undefined) return;
  }
}

serveRounds((task, nudge) => new Discovering(task as DiscoveryTask, nudge));
