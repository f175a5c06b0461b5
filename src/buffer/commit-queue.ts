/**
 * One write at a time: what arrives meanwhile waits, and goes into the next one together.
 *
 *   append ─┐
 *   append ─┼─► [ follow on one another ] ─► one synced write ─► all of them resolve
 *   append ─┘
 *
 * What does not follow on the one before it is looked at by itself, once that is durable: it may
 * bring again what is stored, or leave a hole.
 */
import { beginning } from "../chain.ts";
import { DataCorrupted } from "./buffer-errors.ts";
import type { Chunk } from "./chunk.ts";
import type { Incoming } from "./incoming.ts";

/** What became of the messages of an append. */
export interface Appended {
  readonly appended: number;
  /** Stored before, with the same bytes. */
  readonly duplicates: number;
}

export interface CommitTarget {
  /** Newest id that is durable. */
  readonly lastId: bigint;
  /** @throws GaplessError where there is no room for so many more messages. */
  checkRoom(count: number): void;
  commit(chunks: readonly Chunk[], logPosition: bigint | undefined): Promise<void>;
  /** What of the messages is new, and how many are not. */
  withoutStored(incoming: Incoming): Promise<{ fresh: Incoming; duplicates: number }>;
}

interface Waiting {
  readonly incoming: Incoming;
  readonly resolve: (appended: Appended) => void;
  readonly reject: (error: unknown) => void;
}

/** Appends that wait are written together up to this size, or one larger. */
const commitBytesMax = 4 * 1024 * 1024;

export class CommitQueue {
  private readonly target: CommitTarget;
  private readonly waiting: Waiting[] = [];
  private running: Promise<void> | undefined;

  constructor(target: CommitTarget) {
    this.target = target;
  }

  push(incoming: Incoming): Promise<Appended> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ incoming, resolve, reject });
      this.running ??= this.run();
    });
  }

  /** Carries out what no commit may overlap with, between two of them. */
  async between(act: () => Promise<void>): Promise<void> {
    while (this.running !== undefined) await this.running;
    const acting = act();
    const isOver = acting.catch(() => undefined);
    this.running = isOver.then(() => this.run());
    await acting;
  }

  /** Resolves once nothing waits any more. */
  async idle(): Promise<void> {
    await this.running;
  }

  /** Never rejects. */
  private async run(): Promise<void> {
    for (let next = this.waiting[0]; next !== undefined; next = this.waiting[0]) {
      const group = this.takeGroup();
      try {
        if (group.length > 0) await this.commit(group);
        else await this.commitAlone(next);
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.running = undefined;
  }

  /** From the first on, those that follow on one another and for which there is room. */
  private takeGroup(): Waiting[] {
    const { target, waiting } = this;
    let { lastId } = target;
    let count = 0;
    let bytes = 0;
    const end = waiting.findIndex(({ incoming }) => {
      if (incoming.prevId !== lastId || bytes >= commitBytesMax) return true;
      if (!hasRoom(target, count + incoming.count)) return true;
      lastId = incoming.lastId;
      count += incoming.count;
      bytes += incoming.bytes;
      return false;
    });
    return waiting.splice(0, end === -1 ? waiting.length : end);
  }

  private async commit(group: readonly Waiting[]): Promise<void> {
    const chunks = group.flatMap(({ incoming }) => incoming.chunks);
    const logPosition = group.findLast(({ incoming }) => incoming.logPosition !== undefined);
    await this.target.commit(chunks, logPosition?.incoming.logPosition);
    for (const { incoming, resolve } of group) {
      resolve({ appended: incoming.count, duplicates: 0 });
    }
  }

  private async commitAlone(waiting: Waiting): Promise<void> {
    this.waiting.shift();
    const { incoming, resolve, reject } = waiting;
    const { target } = this;
    try {
      if (incoming.prevId > target.lastId) {
        throw leavesHole(target.lastId, incoming.prevId);
      }
      const { fresh, duplicates } = await target.withoutStored(incoming);
      target.checkRoom(fresh.count);
      if (fresh.count > 0 || fresh.logPosition !== undefined) {
        await target.commit(fresh.chunks, fresh.logPosition);
      }
      resolve({ appended: fresh.count, duplicates });
    } catch (error) {
      reject(error);
    }
  }
}

function hasRoom(target: CommitTarget, count: number): boolean {
  try {
    target.checkRoom(count);
    return true;
  } catch {
    return false;
  }
}

function leavesHole(lastId: bigint, prevId: bigint): DataCorrupted {
  const instead =
    lastId === beginning
      ? `startAfter(${prevId}n) lets an empty buffer begin there`
      : "what lies between comes first";
  const what = `A batch leaves a hole before it (it follows on id=${prevId}; ${instead})`;
  return new DataCorrupted(lastId, prevId, what);
}
