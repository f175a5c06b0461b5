/** Ends of one channel in one process, for tests that stop or kill one of them in the middle. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import {
  BACK_PRESSURED,
  type Bus,
  type Loss,
  type Publisher,
  type SequenceRange,
  type Subscriber,
} from "gapless/bus";
import type { ChannelFile } from "../../src/bus/channel-file.ts";
import type { Lane, RingMemory } from "../../src/bus/lane.ts";
import { claimWord, consumerOffset, failed, producerOffset } from "../../src/bus/layout.ts";
import { Killed } from "./bus-atomics.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  sizeOf,
  type Settings,
} from "./bus-channel.ts";

export const sizeMax = 100;
const alone: Settings = { messageSizeMax: sizeMax, failedConsumer: "evict" };

/** One producer, and several of which only the first one is there unless a test asks for more. */
export const kinds: [what: string, settings: Settings][] = [
  ["one producer", alone],
  ["several producers", { ...alone, producers: ["engine", "router"] }],
];

/** Its memory can be set back to what it was. Whoever had an end before has died by then. */
export class Stage {
  readonly file: ChannelFile;
  readonly lane: Lane;
  readonly stateWord: number;
  readonly finishedWord: number;
  readonly isShared: boolean;
  /** What the newest consumer was told. */
  losses: Loss[] = [];
  withdrawn: SequenceRange[] = [];
  private readonly pristine: Uint8Array;
  private readonly engine: Bus;
  private readonly router: Bus;
  private readonly ledger: Bus;

  constructor(context: TestContext, settings: Settings) {
    const directory = makeDirectory(context);
    this.file = openFile(directory, settings);
    this.lane = this.file.lanes[0];
    this.stateWord = this.lane.consumer(0) + consumerOffset.state;
    this.finishedWord = this.lane.producer(0) + producerOffset.finished;
    this.isShared = (settings.producers ?? []).length > 1;
    // Of the others nothing follows, so that a stream can end.
    if (this.isShared) this.lane.words[this.lane.producer(1) + producerOffset.finished] = 1;
    this.pristine = this.lane.bytes.slice();
    this.engine = openAs(directory, "engine", settings);
    this.router = openAs(directory, "router", settings);
    this.ledger = openAs(directory, "ledger", settings);
  }

  reset(): void {
    this.lane.bytes.set(this.pristine);
    this.losses = [];
    this.withdrawn = [];
  }

  publisher(): Publisher {
    declareDead(this.lane, this.lane.producer(0));
    return this.engine.publisher(channelName);
  }

  otherPublisher(): Publisher {
    declareDead(this.lane, this.lane.producer(1));
    return this.router.publisher(channelName);
  }

  subscriber(): Subscriber {
    declareDead(this.lane, this.lane.consumer(0));
    this.losses = [];
    this.withdrawn = [];
    return this.ledger.subscriber(channelName, {
      onLoss: (loss) => this.losses.push(loss),
      onWithdrawn: (range) => this.withdrawn.push(range),
    });
  }

  killPublisher(): void {
    declareDead(this.lane, this.lane.producer(0));
  }

  killSubscriber(): void {
    declareDead(this.lane, this.lane.consumer(0));
  }

  evict(): void {
    this.lane.words[this.stateWord] = this.word(this.stateWord) | failed;
  }

  word(index: number): number {
    return Atomics.load(this.lane.words, index);
  }

  /** Whether somebody else could claim now without having to wait. */
  get canClaim(): boolean {
    return this.word(claimWord.lock) === 0;
  }

  /** Every sequence through `newest` was either taken, once, or told to be lost or taken back. */
  assertAllAccountedFor(numbers: readonly number[], newest: number): void {
    for (const { from, to, messages } of this.losses) assert.equal(messages, to - from + 1);
    const told = [...this.losses, ...this.withdrawn].flatMap(({ from, to }) =>
      Array.from({ length: to - from + 1 }, (_unused, index) => from + index),
    );
    const all = [...numbers, ...told].sort((left, right) => left - right);
    assert.deepEqual(
      all,
      Array.from({ length: newest }, (_unused, index) => index + 1),
    );
  }
}

/** Claims messages until there are `count` or no room. Each knows its sequence and size. */
export function claim(publisher: Publisher, count = Infinity): void {
  for (let claimed = 0; claimed < count; claimed++) {
    const length = sizeOf(publisher.sequence + 1, sizeMax);
    const offset = publisher.claim(length);
    if (offset === BACK_PRESSURED) return;
    const { sequence, memory } = publisher;
    memory.doubles[offset / 8] = sequence * sizeRange + length;
    for (let index = 8; index < length; index++)
      memory.bytes[offset + index] = fill(sequence, index);
  }
}

export function publish(publisher: Publisher, count = Infinity): void {
  claim(publisher, count);
  publisher.commit();
}

/** Takes all there is; each has to be whole and to come after the one before it. */
export function take(subscriber: Subscriber): number[] {
  const numbers: number[] = [];
  while (
    subscriber.poll((memory, offset, length) => {
      const sequence = readMessage(memory, offset, length);
      assert.ok(sequence > (numbers.at(-1) ?? 0), `${sequence} after ${numbers.at(-1)}`);
      assert.equal(sequence, subscriber.envelope.sequence);
      numbers.push(sequence);
    }, 1000) > 0
  );
  return numbers;
}

/** The sequence that is in a message of `claim`. Fails where it is torn or cut. */
export function readMessage(
  { bytes, doubles }: RingMemory,
  offset: number,
  length: number,
): number {
  const first = doubles[offset / 8] ?? NaN;
  const sequence = Math.floor(first / sizeRange);
  assert.equal(length, first % sizeRange, `message ${sequence} is cut`);
  for (let index = 8; index < length; index++) {
    if (bytes[offset + index] !== fill(sequence, index)) assert.fail(`message ${sequence} is torn`);
  }
  return sequence;
}

/** The same, of a copy of the message alone. */
export function readCopy(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const sequence = Math.floor(view.getFloat64(0, true) / sizeRange);
  assert.equal(bytes.length, view.getFloat64(0, true) % sizeRange, `message ${sequence} is cut`);
  return sequence;
}

const sizeRange = 1024;

function fill(sequence: number, index: number): number {
  return (sequence + index * 7) & 0xff;
}

/** Whether `act` came to its end, and was not killed on the way. */
export function survives(act: () => unknown): boolean {
  try {
    act();
    return true;
  } catch (error) {
    if (error instanceof Killed) return false;
    throw error;
  }
}
