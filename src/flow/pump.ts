/**
 * The one loop that everything hangs on: recover → fill → live.
 *
 *   source ──follow──► batch ──apply──► sink          acknowledge goes back only
 *              │ gap                      │           when the sink has committed
 *              └── archive ──► batch ─────┘
 *
 * What is true is what the sink has committed. A crash at any point is repaired by starting
 * again: the source delivers anew what was not acknowledged, what the sink has already committed
 * is recognised by the chain and dropped, and what is missing comes from an archive.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { beginning, follow } from "../chain.ts";
import { describeError, GaplessError, isGaplessError } from "../errors.ts";
import { isBatch, lastIdOf, type Batch, type Message } from "../message.ts";
import { reachedStep } from "../steps.ts";
import { noRepair, type Archive, type Repair, type Sink, type Source } from "./endpoints.ts";

export interface PumpOptions {
  readonly source: Source;
  readonly sink: Sink;
  /** Asked for missing ranges in this order; the next one where a range is not to be had. */
  readonly archives?: readonly Archive[];
  /** Ends the pump after the batch under way. What was not acknowledged comes again. */
  readonly signal: AbortSignal;
  /** Messages read from an archive at a time. */
  readonly fillBatchMax?: number;
  /** Pause before an archive that did not answer is asked again. */
  readonly retryDelayMs?: number;
  /** Called where the messages behind `last` through `throughId` are missing, before the filling. */
  readonly onGap?: (last: bigint, throughId: bigint) => void;
  /** Called after each commit with the position, and what the batch repaired. */
  readonly onProgress?: (position: bigint, repair: Repair) => void;
}

/**
 * Runs until the source ends, and everything that an archive has is applied, or until the signal
 * aborts. An archive that does not answer at the end is waited for: it may have what nobody
 * delivered. Returns the position of the sink.
 *
 * @throws GaplessError CHAIN_BROKEN, GAP_NOT_FILLED, and whatever source and sink throw. Nothing
 *   is acknowledged that was not committed, so running it again is always safe.
 */
export async function pump(options: PumpOptions): Promise<bigint> {
  const { source, sink, signal, archives = [], onGap, onProgress } = options;
  const fillBatchMax = options.fillBatchMax ?? 8192;
  const retryDelayMs = options.retryDelayMs ?? 20;
  let last = await sink.position();

  /** The only place where something is committed, and the only order: apply, then acknowledge. */
  const commit = async (batch: Batch, repair = noRepair): Promise<void> => {
    await sink.apply(batch, repair);
    last = lastIdOf(batch);
    reachedStep("flow.applied");
    await source.acknowledge(last);
    reachedStep("flow.acknowledged");
    onProgress?.(last, repair);
  };

  const deliver = async (messages: Batch): Promise<void> => {
    const before = last;
    let rest: readonly Message[] = messages;
    while (rest.length > 0) {
      const { fresh, gapEnd, later } = takeNext(last, rest);
      if (isBatch(fresh)) await commit(fresh);
      if (gapEnd !== undefined) await fill(gapEnd);
      if (signal.aborted) return;
      rest = later;
    }
    // Nothing but duplicates: the source may forget them all the same.
    if (last === before) await source.acknowledge(last);
  };

  /** Closes the gap `(last, throughId]`. */
  const fill = async (throughId: bigint): Promise<void> => {
    if (last < throughId) onGap?.(last, throughId);
    while (last < throughId) {
      const read = await readMissing(last, throughId);
      if (read === undefined) return;
      const batch = read.filter((message) => message.id <= throughId);
      checkChain(last, batch);
      if (!isBatch(batch)) throw gapNotFilled(last, throughId, "an archive answered past it");
      const gaps = lastIdOf(batch) >= throughId ? 1 : 0;
      await commit(batch, { gaps, messages: batch.length });
    }
  };

  /** undefined when the signal aborts before any archive has answered. */
  const readMissing = async (after: bigint, throughId: bigint): Promise<Batch | undefined> => {
    while (!signal.aborted) {
      let unavailable = false;
      let reason: unknown = "no archive is configured";
      for (const archive of archives) {
        try {
          return await archive.read(after + 1n, fillBatchMax);
        } catch (error) {
          if (!isGaplessError(error)) throw error;
          unavailable ||= error.advice === "retry";
          reason = error;
        }
      }
      if (!unavailable) throw gapNotFilled(after, throughId, reason);
      await pause(retryDelayMs, signal);
    }
    return undefined;
  };

  /** Newest id that an archive had at the last silence: by the next one it should have come. */
  let expectedId = beginning;

  /**
   * Fills what is missing at the end of the stream, where no message behind it tells of the gap:
   * at a silence what an archive has had since the one before, at the end all it has. False
   * where an archive did not answer.
   */
  const catchUp = async (isEnd: boolean): Promise<boolean> => {
    let answered = true;
    // Not what another archive has just told: that, too, has until the next silence to come.
    const dueId = expectedId;
    for (const archive of archives) {
      try {
        const maxId = (await archive.bounds())?.maxId ?? beginning;
        const throughId = isEnd ? maxId : dueId;
        if (throughId > last) await fill(throughId);
        if (maxId > expectedId) expectedId = maxId;
      } catch (error) {
        if (!isGaplessError(error, "PEER_UNAVAILABLE")) throw error;
        answered = false;
      }
    }
    return answered;
  };

  for await (const batch of source.pending()) {
    if (signal.aborted) return last;
    await deliver(batch);
  }
  for await (const batch of source.live(signal)) {
    // An archive that does not answer is asked again after the next silence.
    if (batch === null) await catchUp(false);
    else await deliver(batch);
    if (signal.aborted) return last;
  }
  while (!signal.aborted && !(await catchUp(true))) await pause(retryDelayMs, signal);
  return last;
}

/**
 * The pure part: of `messages`, the run that follows `last` without a hole, then the end of the
 * gap before the next message, if there is one, and what comes from there on.
 */
export function takeNext(
  last: bigint,
  messages: readonly Message[],
): { fresh: Message[]; gapEnd?: bigint; later: readonly Message[] } {
  const fresh: Message[] = [];
  let position = last;
  for (const [index, message] of messages.entries()) {
    switch (follow(position, message)) {
      case "next":
        fresh.push(message);
        position = message.id;
        break;
      case "duplicate":
        break;
      case "gap":
        return { fresh, gapEnd: message.prevId, later: messages.slice(index) };
      case "broken":
        throw chainBroken(position, message);
    }
  }
  return { fresh, later: [] };
}

function checkChain(last: bigint, messages: readonly Message[]): void {
  let position = last;
  for (const message of messages) {
    if (follow(position, message) !== "next") throw chainBroken(position, message);
    position = message.id;
  }
}

function chainBroken(last: bigint, message: Message): GaplessError {
  return new GaplessError(
    "CHAIN_BROKEN",
    `A message does not follow what was delivered: last=${last.toString()}, ` +
      `id=${message.id.toString()}, prevId=${message.prevId.toString()}. Two streams were mixed, ` +
      "or the sink belongs to another one.",
  );
}

function gapNotFilled(last: bigint, throughId: bigint, reason: unknown): GaplessError {
  const range = `(${last.toString()}, ${throughId.toString()}]`;
  return new GaplessError(
    "GAP_NOT_FILLED",
    `Messages ${range} are missing and cannot be had: ${describeError(reason)}`,
    { cause: reason },
  );
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  // An abort ends the pause; whoever paused looks at the signal.
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
