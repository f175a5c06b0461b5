/** Producers and consumers of a scene: what they do, written as generators that stop in between. */
import { isGaplessError } from "../../../src/errors.ts";
import type { Lane } from "../../../src/bus/lane.ts";
import type { Ledger, Sent, Taken } from "./ledger.ts";
import {
  between,
  napping,
  type Offering,
  type Stage,
  type StepHandler,
  type Steps,
  type Taking,
} from "./stage.ts";

/** Longer than any run. */
const forEverMs = 1e9;

const bodies = new Map<string, Uint8Array>();

/** A message of which every word says whose it is. */
export function bodyOf(id: number, bytes: number): Uint8Array {
  const key = `${id}:${bytes}`;
  let body = bodies.get(key);
  if (body === undefined) {
    body = new Uint8Array(bytes);
    new Int32Array(body.buffer).forEach((_zero, index, words) => (words[index] = id + 1));
    bodies.set(key, body);
  }
  return body;
}

export interface Producing {
  /** Of the first message; the others follow. */
  readonly id: number;
  /** Bytes of each message: a multiple of 8. */
  readonly sizes: readonly number[];
  /** So many are published at once. */
  readonly batch: number;
  readonly waits: "asleep" | "napping";
  /** Before each of them it claims one that it takes back. */
  readonly wavers?: boolean;
  /** Whether it says in the end that nothing will follow. */
  readonly finishes?: boolean;
}

/** Publishes what it is asked to, however long that takes. Ends early when it is fenced off. */
export function* produce(
  ledger: Ledger,
  publisher: Offering,
  { id, sizes, batch, waits, wavers, finishes }: Producing,
): Steps<void> {
  for (let index = 0; index < sizes.length; index += batch) {
    const part = sizes.slice(index, index + batch);
    const messages = part.map((bytes, place) => bodyOf(id + index + place, bytes));
    const sent = messages.map((_body, place) => ledger.begin(id + index + place));
    try {
      if (wavers === true) yield* waver(ledger, publisher, part[0] ?? 0);
      yield* offer(publisher, messages, sent, waits);
    } catch (error) {
      if (!isGaplessError(error) || error.code !== "FENCED") throw error;
      for (const one of sent) one.isRefused = one.sequence === 0;
      return;
    }
  }
  if (finishes === true) yield* publisher.finish();
}

function* waver(ledger: Ledger, publisher: Offering, bytes: number): Steps<void> {
  if ((yield* publisher.claim(bytes)) < 0) return;
  const { sequence } = publisher;
  ledger.withdraw(sequence, false);
  yield* publisher.abort();
  ledger.withdraw(sequence, true);
}

function* offer(
  publisher: Offering,
  messages: readonly Uint8Array[],
  sent: readonly Sent[],
  waits: Producing["waits"],
): Steps<void> {
  let count = 0;
  let refusals = 0;
  while (count < messages.length) {
    const rest = messages.slice(count);
    const [first] = rest;
    if (first === undefined) return;
    let went: number;
    if (messages.length === 1) {
      const sequence = yield* publisher.offer(first);
      went = sequence > 0 ? 1 : 0;
      if (went > 0) note(sent[count], sequence);
    } else {
      went = yield* publisher.offerMany(rest);
      // With several producers the sequences between are those of others: only the last is known.
      if (went > 0) note(sent[count + went - 1], publisher.sequence);
    }
    count += went;
    if (count === messages.length) return;
    if (went > 0) continue;
    // The first refusal may have made room by itself.
    if (waits === "asleep") yield* publisher.waitForRoomBlocking(first.length, forEverMs);
    else if (++refusals % 2 === 0) yield napping;
  }
}

function note(sent: Sent | undefined, sequence: number): void {
  if (sent !== undefined) sent.sequence = sequence;
}

export interface Consuming {
  /** At most so many a poll; each poll is released. */
  readonly limit: number;
  readonly waits: "asleep" | "napping";
  /** Whether the stream has an end that it has to see. */
  readonly ends?: boolean;
}

/** Takes what comes, for ever or to the end. */
export function* consume(
  stage: Stage,
  subscriber: Taking,
  taken: Taken,
  { limit, waits, ends }: Consuming,
): Steps<void> {
  // What is copied out is whole when it is handed over, and does not come again.
  const isFinal = stage.lane.channel.backpressure.mode === "DropOldest";
  const settle = (batch: { id: number; sequence: number; isWhole: boolean }[]): void => {
    for (const { id, sequence, isWhole } of batch.splice(0)) {
      if (!isWhole) throw new Error(`torn: sequence ${sequence} to ${taken.consumer}`);
      taken.messages.push({ id, sequence });
    }
    taken.losses.push(...taken.pending.losses.splice(0));
    taken.withdrawn.push(...taken.pending.withdrawn.splice(0));
  };
  while (true) {
    const batch: { id: number; sequence: number; isWhole: boolean }[] = [];
    const handler: StepHandler = function* (memory, offset, length) {
      yield* look(stage, memory, offset, length, batch);
      if (isFinal) settle(batch);
    };
    let count: number;
    try {
      count = yield* subscriber.poll(handler, limit);
    } catch (error) {
      if (!isGaplessError(error) || error.code !== "MESSAGES_LOST") throw error;
      settle([]);
      continue;
    }
    settle(batch);
    if (count > 0) yield* subscriber.release();
    else if (ends === true && (yield* subscriber.ended())) return;
    else if (waits === "napping") yield napping;
    else yield* subscriber.waitBlocking(forEverMs);
  }
}

/** Reads a message in two halves. */
function* look(
  stage: Stage,
  memory: Lane,
  offset: number,
  length: number,
  batch: { id: number; sequence: number; isWhole: boolean }[],
): Steps<void> {
  const { words, doubles } = memory;
  const first = offset / 4;
  const sequence = stage.memory.get(doubles, offset / 8 - 1) ?? 0;
  const mark = stage.memory.get(words, first) ?? 0;
  let isWhole = true;
  const count = length / 4;
  for (let index = 0; index < count; index++) {
    if (index === count >>> 1) yield between;
    if (stage.memory.get(words, first + index) !== mark) isWhole = false;
  }
  batch.push({ id: mark - 1, sequence, isWhole });
}
