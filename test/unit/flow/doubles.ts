/**
 * Source, archive and sink in memory, with the behaviour that their interfaces promise, and a
 * place to crash at before and after each thing that they do.
 */
import assert from "node:assert/strict";
import { GaplessError, type ErrorCode } from "../../../src/errors.ts";
import { isBatch, lastIdOf, type Batch, type Message } from "../../../src/message.ts";
import type { Archive, Bounds, Repair, Sink, Source } from "../../../src/flow/endpoints.ts";

/** Messages in chain order whose ids go up by the steps given. */
export function makeStream(steps: readonly number[]): Message[] {
  const messages: Message[] = [];
  let prevId = 0n;
  for (const step of steps) {
    const id = prevId + BigInt(step);
    messages.push({ id, prevId, timestampNs: id * 10n, bytes: new Uint8Array([step]) });
    prevId = id;
  }
  return messages;
}

/** A stream without skipped ids. */
export function countedStream(count: number): Message[] {
  return makeStream(new Array<number>(count).fill(1));
}

export function batchOf(messages: readonly Message[]): Batch {
  assert.ok(isBatch(messages));
  return messages;
}

export class Crash extends Error {}

/** Called before and after everything that matters: what a test stops the world with. */
export type Moment = (what: string) => void;
const calmly: Moment = () => undefined;

/** Delivers what it is given; what was not acknowledged comes again after a restart. */
export class MemorySource implements Source {
  readonly acknowledged: bigint[] = [];
  private readonly items: (Batch | null)[];
  private readonly moment: Moment;
  private delivered = 0;
  private settled = 0;

  constructor(items: readonly (Batch | null)[], moment: Moment = calmly) {
    this.items = [...items];
    this.moment = moment;
  }

  async *pending(): AsyncGenerator<Batch> {
    const again = this.items.slice(this.settled, this.delivered);
    for (const item of again) {
      if (item === null) continue;
      this.moment("pending");
      yield item;
    }
  }

  async *live(signal: AbortSignal): AsyncGenerator<Batch | null> {
    while (this.delivered < this.items.length && !signal.aborted) {
      this.moment("live");
      const item = this.items[this.delivered++] ?? null;
      yield item;
    }
  }

  async acknowledge(throughId: bigint): Promise<void> {
    this.moment("before acknowledge");
    this.acknowledged.push(throughId);
    // As a ring does: in order, and a batch as a whole or not at all.
    while (this.settled < this.delivered) {
      const item = this.items[this.settled] ?? null;
      if (item?.some(({ id }) => id > throughId)) break;
      this.settled++;
    }
    this.moment("after acknowledge");
  }

  /** Whether nothing would be delivered again. */
  get isSettled(): boolean {
    return this.items.slice(this.settled).every((item) => item === null);
  }
}

/** Keeps part of a stream. What goes wrong is put into `failures`, for so many calls. */
export class MemoryArchive implements Archive {
  readonly reads: bigint[] = [];
  boundsAsked = 0;
  messages: readonly Message[];
  /** Everything through this id was trimmed away. */
  trimmedThrough = 0n;
  failures: ErrorCode[] = [];
  private readonly moment: Moment;

  constructor(messages: readonly Message[], moment: Moment = calmly) {
    this.messages = messages;
    this.moment = moment;
  }

  async read(fromId: bigint, limit: number): Promise<Batch> {
    this.moment("read");
    this.reads.push(fromId);
    this.failAsAsked();
    if (fromId <= this.trimmedThrough) throw new GaplessError("DATA_TRIMMED", "trimmed, as asked");
    const found = this.messages.filter(({ id }) => id >= fromId).slice(0, limit);
    if (!isBatch(found)) throw new GaplessError("DATA_NOT_YET_AVAILABLE", "not yet there");
    return found;
  }

  async bounds(): Promise<Bounds | null> {
    this.moment("bounds");
    this.boundsAsked++;
    this.failAsAsked();
    const kept = this.messages.filter(({ id }) => id > this.trimmedThrough);
    return isBatch(kept) ? { minId: kept[0].id, maxId: lastIdOf(kept) } : null;
  }

  private failAsAsked(): void {
    const code = this.failures.shift();
    if (code !== undefined) throw new GaplessError(code, "failing, as asked");
  }
}

/** Commits rows and position in one step, and survives what crashes around it. */
export class MemorySink implements Sink {
  rows: readonly Message[] = [];
  readonly batches: (readonly bigint[])[] = [];
  readonly repairs: Repair[] = [];
  private readonly moment: Moment;

  constructor(rows: readonly Message[] = [], moment: Moment = calmly) {
    this.rows = rows;
    this.moment = moment;
  }

  get lastId(): bigint {
    return this.rows.at(-1)?.id ?? 0n;
  }

  async position(): Promise<bigint> {
    this.moment("position");
    return this.lastId;
  }

  async apply(batch: Batch, repair: Repair): Promise<void> {
    this.moment("before apply");
    // A view that the source reuses after the step must not get here.
    await Promise.resolve();
    this.rows = [...this.rows, ...batch];
    this.batches.push(batch.map(({ id }) => id));
    this.repairs.push(repair);
    this.moment("after apply");
  }
}
