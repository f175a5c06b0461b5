/**
 * Reading a stream from a sequence on, without a gap and without a duplicate, whatever happens to
 * its servers.
 *
 *   look at the stream ──► consumer from last + 1 ──► fetch, fetch, … ─┐
 *         ▲                                                           │ silence, gap, error
 *         └──────────────── pause, longer each time ◄─────────────────┘
 *
 * A consumer is kept by one server, in memory, and forgets itself. Nothing depends on what it says:
 * each message tells its sequence in the stream, the next one is taken, one that was taken is
 * dropped, and anything else means another consumer. Silence is checked: a server may lag behind
 * the leader of the stream, by the last message for as long as no other comes, and its consumer
 * then has nothing to give. What a consumer does not give is asked of the leader.
 */
import type { JsMsg } from "@nats-io/jetstream";
import { setTimeout as sleep } from "node:timers/promises";
import { describeError, GaplessError } from "../errors.ts";
import { anotherLog, logTrimmed, type LogEntry } from "../flow/replicated-log.ts";
import { finalFailure, isStreamNotFound } from "./nats-client.ts";
import {
  fetchAll,
  fetchMax,
  isAborted,
  openConsumer,
  type FetchingParts,
} from "./nats-fetching.ts";
import { deliveredEntry, storedEntry } from "./nats-place.ts";

/** What reading needs of a connection. */
export interface ReadingParts extends FetchingParts {
  /** When the stream was made: another time means another stream. */
  readonly created: string;
  /** How long a stream may be missing, or shorter than it was: its servers may be starting. */
  readonly settleMs: number;
  /** Asks that another server lead the stream. */
  readonly changeLeader: () => Promise<void>;
  /** Told of what is tried again. */
  readonly onTrouble: (trouble: GaplessError) => void;
}

/** A leader whose stream is not as it has to be is asked so often before another is to lead. */
const looksPerLeader = 3;
/** Pauses between two tries. */
const pauseMs = { first: 50, most: 2000 } as const;

/** @throws GaplessError as `LogReader.read`; CLOSED, CONFIG_INVALID of the client. */
export async function* readStream(
  parts: ReadingParts,
  afterPosition: bigint,
  signal: AbortSignal,
): AsyncGenerator<readonly LogEntry[], void, void> {
  const { client, stream, onTrouble } = parts;
  const cursor = new Cursor(parts, Number(afterPosition));
  let waitMs: number = pauseMs.first;
  while (!signal.aborted) {
    try {
      await cursor.checkStream();
      const missed = await cursor.readMissed();
      if (missed.length > 0) yield missed;
      const consumer = await openConsumer(parts, cursor.last + 1);
      for await (const messages of fetchAll(parts, consumer, signal)) {
        const entries = cursor.take(messages);
        if (messages.length === 0 && !isAborted(signal)) await cursor.checkSilence();
        if (entries.length === 0) continue;
        waitMs = pauseMs.first;
        yield entries;
      }
    } catch (error) {
      // The log may be closed by now, and its connection with it.
      if (isAborted(signal)) return;
      const final = finalFailure(client, `Reading the stream ${stream}`, error);
      if (final !== undefined && final.code !== "PEER_UNAVAILABLE") throw final;
      onTrouble(final ?? troubled(`Reading the stream ${stream}`, error));
    }
    // An abort ends the pause; the loop looks at the signal.
    await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    waitMs = Math.min(waitMs * 2, pauseMs.most);
  }
}

/** Where in the stream the reader is. */
class Cursor {
  last: number;

  private readonly parts: ReadingParts;
  /** Of the stream's leader, when it was last asked. */
  private newest = 0;
  /** Whether the last consumer has not given what there is. */
  private hasMissed = false;
  /** Since when the stream is not as it has to be. */
  private unsettledSince: number | undefined;
  private unsettledLooks = 0;

  constructor(parts: ReadingParts, last: number) {
    this.parts = parts;
    this.last = last;
  }

  /** Those that come next, as entries; behind a gap none. */
  take(messages: readonly JsMsg[]): LogEntry[] {
    const entries: LogEntry[] = [];
    for (const message of messages) {
      const { streamSequence } = message.info;
      if (streamSequence <= this.last) continue;
      if (streamSequence !== this.last + 1) {
        if (entries.length > 0) break;
        this.hasMissed = true;
        throw new Error(`after sequence=${this.last} came ${streamSequence}`);
      }
      const entry = deliveredEntry(message);
      if (entry === undefined) {
        if (entries.length > 0) break;
        this.hasMissed = true;
        throw new Error(`sequence=${streamSequence} is not the place of what came with it`);
      }
      this.last = streamSequence;
      entries.push(entry);
    }
    return entries;
  }

  /** @throws GaplessError where reading can never go on; Error where it cannot yet. */
  async checkStream(): Promise<void> {
    const { client, manager, stream, created } = this.parts;
    const { last } = this;
    try {
      const info = await manager.streams.info(stream);
      const { first_seq: oldest, last_seq: newest } = info.state;
      this.newest = newest;
      if (info.created !== created) throw madeAnew(stream, last);
      // Of an empty stream, first is what comes next.
      if (oldest > last + 1) throw logTrimmed(nameOf(stream), BigInt(last), BigInt(oldest));
      if (newest < last)
        await this.unsettled(anotherLog(nameOf(stream), BigInt(last), BigInt(newest)));
      if (!this.hasMissed) this.unsettledSince = undefined;
    } catch (error) {
      if (isStreamNotFound(client, error)) await this.unsettled(gone(stream, last));
      throw error;
    }
  }

  /** Nothing has come for a while. @throws Error where there is something all the same. */
  async checkSilence(): Promise<void> {
    await this.checkStream();
    if (this.newest <= this.last) return;
    this.hasMissed = true;
    throw new Error(`sequence=${this.newest} is there, and nothing came after ${this.last}`);
  }

  /** Of what the last consumer has not given the first, from the leader itself. */
  async readMissed(): Promise<LogEntry[]> {
    const { manager, stream } = this.parts;
    const entries: LogEntry[] = [];
    if (!this.hasMissed) return entries;
    const end = Math.min(this.newest, this.last + fetchMax);
    for (let next = this.last + 1; next <= end; next++) {
      const message = await manager.streams.getMessage(stream, { seq: next });
      if (message === null) return this.unsettled(lost(stream, next));
      const entry = storedEntry(message);
      if (entry === undefined) return this.unsettled(differing(stream, next));
      entries.push(entry);
    }
    // Only now: where one of them could not be had, all are read again.
    this.last = end;
    this.hasMissed = false;
    this.unsettledSince = undefined;
    return entries;
  }

  /** Throws `final` where it has been so for too long, and an error that is tried again before. */
  private async unsettled(final: GaplessError): Promise<never> {
    this.unsettledSince ??= performance.now();
    if (performance.now() - this.unsettledSince >= this.parts.settleMs) throw final;
    if (++this.unsettledLooks % looksPerLeader === 0) await this.parts.changeLeader();
    throw new Error(final.message);
  }
}

function nameOf(stream: string): string {
  return `The stream ${stream}`;
}

function troubled(what: string, error: unknown): GaplessError {
  return new GaplessError("PEER_UNAVAILABLE", `${what}, again: ${describeError(error)}.`, {
    cause: error,
  });
}

/** A copy that has lost something has all that follows at other places. */
function differing(stream: string, sequence: number): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${nameOf(stream)} has another message at sequence=${sequence} on the server that leads it ` +
      "than was written there: its copy has lost something. Let another server lead, then remove " +
      "this copy.",
  );
}

function lost(stream: string, sequence: number): GaplessError {
  return new GaplessError(
    "MESSAGES_LOST",
    `${nameOf(stream)} has lost position=${sequence}, and goes on behind it. Make the replica ` +
      "anew from one that has applied it.",
  );
}

function madeAnew(stream: string, last: number): GaplessError {
  return new GaplessError(
    "CHAIN_BROKEN",
    `${nameOf(stream)} was removed and made anew: position=${last} is of another log. Connect ` +
      "again, with replicas that begin with it.",
  );
}

function gone(stream: string, last: number): GaplessError {
  return new GaplessError(
    "MESSAGES_LOST",
    `${nameOf(stream)} is not there any more: position=${last} was read from it. Restore it.`,
  );
}
