/**
 * A small ring against a model of it: whatever is done at its ends, in whatever order, what goes in
 * comes out. Ends are also closed and killed, and the positions pass 2^31 and 2^32.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import fc from "fast-check";
import { BACK_PRESSURED, type Bus, type Publisher, type Subscriber } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import type { ChannelFile } from "../../../src/bus/channel-file.ts";
import {
  consumerOffset,
  consumerWord,
  ownershipWord,
  recordHeaderUnits,
  unitBytes,
} from "../../../src/bus/layout.ts";
import {
  ageChannel,
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

const messageSizeMax = 496;
const consumers = ["ledger", "candles"];
const settings: Settings = { consumers, messageSizeMax };
const capacity = 4096 / unitBytes;

interface Sent {
  readonly sequence: number;
  readonly bytes: Uint8Array;
  /** Without any wrap: where the record begins and ends. */
  readonly start: number;
  readonly end: number;
}

/** What a consumer should be at. */
interface Reader {
  subscriber: Subscriber;
  taken: Place;
  released: Place;
  /** Messages that it knows to be committed, since it last looked. */
  known: number;
}

interface Place {
  /** Messages since the channel was made. */
  readonly count: number;
  /** Where in the ring, without any wrap: padding may be passed already, or not. */
  readonly position: number;
}

class World {
  private readonly directory: string;
  private readonly file: ChannelFile;
  private readonly buses: Bus[] = [];
  private readonly origin: number;
  private publisher: Publisher;
  private readonly readers: readonly Reader[];
  private readonly committed: Sent[] = [];
  private claims: Sent[] = [];
  private sequence: number;
  private finished = false;

  constructor(directory: string, position: number, sequence: number) {
    this.directory = directory;
    this.file = openFile(directory, settings);
    if (sequence > 0) ageChannel(this.file, position, sequence);
    this.origin = position;
    this.sequence = sequence;
    this.publisher = this.openBus("engine").publisher(channelName);
    this.readers = consumers.map((name) => this.openReader(name, { count: 0, position }));
  }

  claim(length: number, fill: number): void {
    const bytes = new Uint8Array(length).fill(fill);
    for (let index = 0; index < length; index++) bytes[index] = (fill + index) & 0xff;
    const offset = this.publisher.claim(length);
    const sent = this.place(bytes);
    assert.equal(offset === BACK_PRESSURED, sent === undefined, "full exactly when it is full");
    if (sent === undefined) return;
    assert.equal(offset % 8, 0);
    this.publisher.memory.bytes.set(bytes, offset);
    this.claims.push(sent);
    assert.equal(this.publisher.sequence, sent.sequence);
  }

  commit(): void {
    this.publisher.commit();
    this.committed.push(...this.claims.splice(0));
  }

  abort(): void {
    this.publisher.abort();
    this.claims = [];
    assert.equal(this.publisher.sequence, this.sequence + this.committed.length);
  }

  offer(length: number, fill: number): void {
    const bytes = new Uint8Array(length).fill(fill);
    const sequence = this.publisher.offer(bytes);
    const sent = this.place(bytes);
    assert.equal(sequence, sent?.sequence ?? BACK_PRESSURED);
    if (sent === undefined) return;
    this.committed.push(...this.claims.splice(0), sent);
  }

  /** Asks for room without waiting for it. */
  askForRoom(length: number): void {
    if (this.claims.length > 0) return;
    const hasRoom = this.publisher.waitForRoomBlocking(length, 0);
    const isEmpty = this.readers.every(({ released }) => released.position === this.tail);
    // Half a ring is always enough, and what is promised can be claimed.
    assert.ok(hasRoom || !isEmpty);
    if (hasRoom) assert.ok(this.place(new Uint8Array(length)));
  }

  poll(who: number, limit: number, throwAt = Infinity): void {
    const reader = this.reader(who);
    const before = reader.taken.count;
    if (before === reader.known) reader.known = this.committed.length;
    const expected = Math.min(limit, reader.known - before);
    let seen = 0;
    const poll = (): number =>
      reader.subscriber.poll((memory, offset, length) => {
        if (seen === throwAt) throw new Error("as asked");
        const sent = this.committed[before + seen];
        assert.ok(sent, "a message that nobody sent");
        assert.equal(memory.doubles[offset / 8 - 1], sent.sequence);
        assert.deepEqual(memory.bytes.slice(offset, offset + length), sent.bytes);
        seen++;
      }, limit);
    if (throwAt < expected) {
      assert.throws(poll, /as asked/);
      // At the message that it threw on, so behind the padding before it.
      const { start } = this.committed[before + seen] ?? assert.fail();
      reader.taken = { count: before + seen, position: start };
    } else {
      assert.equal(poll(), expected);
      const { end } = this.committed[before + seen - 1] ?? { end: this.origin };
      if (seen > 0) reader.taken = { count: before + seen, position: end };
    }
    assert.equal(seen, Math.min(expected, throwAt));
    assert.equal(reader.subscriber.ended, this.finished && this.isAtEnd(reader));
    assert.equal(reader.subscriber.lagBytes, (this.tail - reader.taken.position) * unitBytes);
  }

  release(who: number): void {
    const reader = this.reader(who);
    reader.subscriber.release();
    reader.released = reader.taken;
  }

  /** Leaves the end and takes it again, having closed it or having been killed. */
  reopenPublisher(killed: boolean): void {
    if (killed) declareDead(this.file, ownershipWord.producer);
    else this.publisher.close();
    this.claims = [];
    this.finished = false;
    this.publisher = this.openBus("engine").publisher(channelName);
    this.checkLast();
    assert.equal(this.publisher.sequence, this.sequence + this.committed.length);
  }

  reopenReader(who: number, killed: boolean): void {
    const reader = this.reader(who);
    const index = who % consumers.length;
    if (killed) declareDead(this.file, consumerWord(index) + consumerOffset.owner);
    else reader.subscriber.close();
    Object.assign(reader, this.openReader(consumers[index] ?? "", reader.released));
    assert.equal(reader.subscriber.wasEvicted, false);
  }

  checkLast(): void {
    const newest = this.committed.at(-1);
    const aged = this.sequence > 0 ? new Uint8Array(0) : undefined;
    if (this.claims.length === 0) {
      assert.deepEqual(this.publisher.last(), newest === undefined ? aged : newest.bytes);
    }
  }

  finish(): void {
    this.abort();
    this.publisher.finish();
    this.finished = true;
  }

  /** In the end, everybody gets everything. */
  close(): void {
    this.commit();
    for (const who of this.readers.keys()) {
      while (!this.isAtEnd(this.reader(who))) this.poll(who, 1000);
    }
    for (const bus of this.buses) bus.close();
    this.file.unmap();
  }

  private get tail(): number {
    return this.committed.at(-1)?.end ?? this.origin;
  }

  private get head(): number {
    return this.claims.at(-1)?.end ?? this.tail;
  }

  private isAtEnd(reader: Reader): boolean {
    return reader.taken.count === this.committed.length;
  }

  /** Where the next record goes; undefined where it would overwrite what is still needed. */
  private place(bytes: Uint8Array): Sent | undefined {
    const units = recordHeaderUnits + Math.ceil(bytes.length / unitBytes);
    const rest = capacity - (this.head % capacity);
    const start = this.head + (units > rest ? rest : 0);
    const anchor = this.committed.at(-1)?.start ?? this.origin - (this.sequence > 0 ? 2 : 0);
    const oldest = Math.min(anchor, ...this.readers.map((it) => it.released.position));
    if (start + units > oldest + capacity) return undefined;
    const sequence = this.sequence + this.committed.length + this.claims.length + 1;
    return { sequence, bytes, start, end: start + units };
  }

  private reader(who: number): Reader {
    const reader = this.readers[who % consumers.length];
    assert.ok(reader);
    return reader;
  }

  private openBus(service: string): Bus {
    const bus = openAs(this.directory, service, settings);
    this.buses.push(bus);
    return bus;
  }

  private openReader(name: string, released: Place): Reader {
    const subscriber = this.openBus(name).subscriber(channelName);
    return { subscriber, taken: released, released, known: released.count };
  }
}

const length = fc.oneof(fc.nat(24), fc.nat(messageSizeMax), fc.constant(messageSizeMax));
const limit = fc.oneof(fc.nat(3), fc.constant(1000));
const who = fc.nat(1);
const fill = fc.nat(255);

type Step =
  | ["claim" | "offer", length: number, fill: number]
  | ["commit" | "abort" | "finish" | "checkLast"]
  | ["askForRoom", length: number]
  | ["poll", who: number, limit: number, throwAt?: number]
  | ["release", who: number]
  | ["reopenPublisher", killed: boolean]
  | ["reopenReader", who: number, killed: boolean];

const step = fc.oneof<{ weight: number; arbitrary: fc.Arbitrary<Step> }[]>(
  { weight: 6, arbitrary: fc.tuple(fc.constant("claim"), length, fill) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("offer"), length, fill) },
  { weight: 4, arbitrary: fc.constant(["commit"]) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom("abort", "finish", "checkLast")) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("askForRoom"), length) },
  { weight: 8, arbitrary: fc.tuple(fc.constant("poll"), who, limit) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("poll"), who, limit, fc.nat(3)) },
  { weight: 6, arbitrary: fc.tuple(fc.constant("release"), who) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("reopenPublisher"), fc.boolean()) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("reopenReader"), who, fc.boolean()) },
);

function take(world: World, [name, ...values]: Step): void {
  Reflect.apply(Reflect.get(world, name) as (...values: unknown[]) => void, world, values);
}

const beginnings: [what: string, position: fc.Arbitrary<number>, sequence: fc.Arbitrary<number>][] =
  [
    ["a new ring", fc.constant(0), fc.constant(0)],
    ["a ring anywhere", fc.nat(2 * capacity).map((it) => (it + 1) * 2), fc.constant(5)],
    [
      "a ring whose positions pass 2^31",
      fc.nat(capacity).map((it) => 2 ** 31 - it * 2),
      fc.nat(40).map((it) => 2 ** 31 - 1 - it),
    ],
    [
      "a ring whose positions pass 2^32",
      fc.nat(capacity).map((it) => 2 ** 32 - it * 2),
      fc.nat(40).map((it) => 2 ** 32 - 1 - it),
    ],
  ];

for (const [what, position, sequence] of beginnings) {
  test(`${what} loses, repeats, reorders and tears nothing, and is full when it is full`, (t) => {
    const root = makeDirectory(t);
    const steps = fc.array(step, { maxLength: 200, size: "max" });
    fc.assert(
      fc.property(position, sequence, steps, (from, count, list) => {
        const directory = fs.mkdtempSync(`${root}/run-`);
        const world = new World(directory, from, count);
        for (const it of list) take(world, it);
        world.close();
      }),
      { numRuns: 400 },
    );
  });
}

test("a message that is too large, or of a negative size, is refused and claims nothing", (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  using publisher = bus.publisher(channelName);
  const offset = publisher.claim(8);
  for (const size of [497, 2 ** 31, 2 ** 32, 2 ** 32 + 8, -1, -8, NaN]) {
    assert.throws(
      () => publisher.claim(size),
      (error) => {
        assert.ok(isGaplessError(error, "MESSAGE_TOO_LARGE"));
        assert.match(error.message, /channel trades.*message_size_max=496/);
        return true;
      },
    );
  }
  assert.ok(publisher.claim(8) > offset);
  assert.equal(publisher.sequence, 2);
});

test("claims that are open at once do not lie on one another", (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  const publisher = bus.publisher(channelName);
  let end = 0;
  let count = 0;
  for (let offset = publisher.claim(20); offset !== BACK_PRESSURED; offset = publisher.claim(20)) {
    assert.ok(offset >= end);
    end = offset + 20;
    publisher.memory.bytes.fill(++count, offset, end);
  }
  publisher.commit();
  using other = openAs(directory, "ledger", settings);
  let seen = 0;
  other.subscriber(channelName).poll((memory, offset, size) => {
    assert.deepEqual(memory.bytes.slice(offset, offset + size), new Uint8Array(20).fill(++seen));
  }, count);
  assert.equal(seen, count);
});

test("an end that is closed says so, and does nothing to whoever has it next", async (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  using other = openAs(directory, "ledger", settings);
  const closed = bus.publisher(channelName);
  const left = other.subscriber(channelName);
  closed.offer(new Uint8Array(3));
  closed.offer(new Uint8Array(4));
  assert.equal(
    left.poll(() => undefined, 1),
    1,
  );
  closed.claim(8);
  closed.close();
  left.close();
  const publisher = bus.publisher(channelName);
  const subscriber = other.subscriber(channelName);
  publisher.offer(new Uint8Array(5));

  const { signal } = new AbortController();
  const uses: (() => unknown)[] = [
    () => closed.claim(8),
    () => closed.offer(new Uint8Array(8)),
    () => closed.commit(),
    () => closed.last(),
    () => closed.finish(),
    () => closed.waitForRoomBlocking(8, 1000),
    () => left.poll(() => assert.fail("a message from a closed end"), 10),
    () => left.release(),
    () => left.ended,
    () => left.lagBytes,
    () => left.waitBlocking(1000),
  ];
  for (const use of uses)
    assert.throws(use, (error) => isGaplessError(error, "CLOSED"), String(use));
  closed.close();
  left.close();

  const lengths: number[] = [];
  subscriber.poll((_memory, _offset, size) => lengths.push(size), 10);
  assert.deepEqual(lengths, [3, 4, 5]);
  assert.equal(publisher.sequence, 3);
  bus.close();
  other.close();
  assert.throws(
    () => publisher.claim(8),
    (error) => isGaplessError(error, "CLOSED"),
  );
  assert.throws(
    () => subscriber.poll(() => assert.fail("a message from unmapped memory"), 10),
    (error) => isGaplessError(error, "CLOSED"),
  );
  for (const wait of [publisher.waitForRoom(8, signal), subscriber.wait(1000, signal)]) {
    await assert.rejects(wait, (error) => isGaplessError(error, "CLOSED"));
  }
});
