/**
 * What the ring of a channel should do, record by record: played beside the real one by
 * ring-model.test.ts.
 */
import assert from "node:assert/strict";
import {
  BACK_PRESSURED,
  type Bus,
  type Publisher,
  type SequenceRange,
  type Subscriber,
} from "gapless/bus";
import { isGaplessError } from "../../src/errors.ts";
import type { ChannelFile } from "../../src/bus/channel-file.ts";
import { recordHeaderUnits, unitBytes } from "../../src/bus/layout.ts";
import {
  ageChannel,
  channelName,
  declareDead,
  openAs,
  openFile,
  type Settings,
} from "./bus-channel.ts";

/** A record, or the rest of the ring that is skipped before one. */
interface Entry {
  readonly producer: number;
  readonly sequence: number;
  readonly bytes: Uint8Array;
  /** Without any wrap. */
  readonly start: number;
  readonly end: number;
  readonly isSkip: boolean;
  state: "claimed" | "message" | "withdrawn" | "nothing";
}

interface Writer {
  publisher: Publisher;
  claims: Entry[];
  newest: Entry | undefined;
  finished: boolean;
}

/** What a consumer should be at: an entry, and where that or what is skipped before it begins. */
interface Place {
  readonly index: number;
  readonly position: number;
}

interface Reader {
  subscriber: Subscriber;
  /** What it was told of in the poll under way: to be lost, and to have been taken back. */
  readonly lost: SequenceRange[];
  readonly withdrawn: SequenceRange[];
  /** Messages taken and not released. */
  held: number;
  taken: Place;
  released: Place;
}

export class World {
  private readonly directory: string;
  private readonly settings: Settings;
  private readonly file: ChannelFile;
  private readonly buses: Bus[] = [];
  private readonly producers: readonly string[];
  private readonly consumers: readonly string[];
  private readonly capacity: number;
  private readonly origin: number;
  private readonly originSequence: number;
  private readonly writers: readonly Writer[];
  private readonly readers: readonly Reader[];
  private readonly entries: Entry[] = [];
  /** Entries below the tail. */
  private visible = 0;
  private sequence: number;

  constructor(directory: string, settings: Settings, position: number, sequence: number) {
    this.directory = directory;
    this.settings = settings;
    this.file = openFile(directory, settings);
    this.capacity = this.file.channel.ringBytes / unitBytes;
    this.producers = this.file.channel.producers;
    this.consumers = this.file.channel.consumers;
    if (sequence > 0) ageChannel(this.file.lanes[0], position, sequence);
    this.origin = position;
    this.originSequence = sequence;
    this.sequence = sequence;
    this.writers = this.producers.map((name) => ({
      publisher: this.openBus(name).publisher(channelName),
      claims: [],
      newest: undefined,
      finished: false,
    }));
    this.readers = this.consumers.map((name) => this.openReader(name, { index: 0, position }));
  }

  claim(who: number, length: number, fill: number): void {
    const writer = this.unfinished(who);
    const bytes = new Uint8Array(length);
    for (let index = 0; index < length; index++) bytes[index] = (fill + index) & 0xff;
    const offset = writer.publisher.claim(length);
    const entry = this.placeAs(who, bytes, offset >= 0);
    assert.equal(offset === BACK_PRESSURED, entry === undefined, "full exactly when it is full");
    if (entry === undefined) return;
    assert.equal(offset % 8, 0);
    writer.publisher.memory.bytes.set(bytes, offset);
    this.add(writer, entry);
  }

  commit(who: number): void {
    const writer = this.writer(who);
    writer.publisher.commit();
    this.settle(writer, "message");
  }

  abort(who: number): void {
    const writer = this.writer(who);
    writer.publisher.abort();
    this.takeBack(writer, "withdrawn");
    if (!this.isShared) assert.equal(writer.publisher.sequence, this.sequence);
  }

  offer(who: number, length: number, fill: number): void {
    const writer = this.unfinished(who);
    const bytes = new Uint8Array(length).fill(fill);
    const sequence = writer.publisher.offer(bytes);
    const entry = this.placeAs(who, bytes, sequence >= 0);
    assert.equal(sequence, entry?.sequence ?? BACK_PRESSURED);
    if (entry === undefined) return;
    this.add(writer, entry);
    this.settle(writer, "message");
  }

  /** Asks for room without waiting for it. */
  askForRoom(who: number, length: number): void {
    const writer = this.unfinished(who);
    if (writer.claims.length > 0) return;
    const hasRoom = writer.publisher.waitForRoomBlocking(length, 0);
    const isEmpty = this.readers.every(({ released }) => released.position === this.head);
    // Half a ring is always enough, and what is promised can be claimed.
    assert.ok(hasRoom || !isEmpty);
    if (hasRoom) assert.ok(this.place(who, new Uint8Array(length)));
  }

  poll(who: number, limit: number, throwAt = Infinity): void {
    const reader = this.reader(who);
    const expected: Entry[] = [];
    let place = reader.taken;
    let throws = false;
    while (place.index < this.visible && expected.length < limit) {
      const entry = this.entries[place.index] ?? assert.fail();
      // At the message that it threw on, so behind what is skipped before it.
      place = { index: place.index, position: entry.start };
      throws = entry.state === "message" && expected.length === throwAt;
      if (throws) break;
      if (entry.state === "message") expected.push(entry);
      place = { index: place.index + 1, position: entry.end };
    }
    let seen = 0;
    const poll = (): number =>
      reader.subscriber.poll((memory, offset, length) => {
        if (seen === throwAt) throw new Error("as asked");
        const entry = expected[seen++];
        assert.ok(entry, "a message that nobody sent");
        assert.equal(memory.doubles[offset / 8 - 1], entry.sequence);
        assert.deepEqual(memory.bytes.slice(offset, offset + length), entry.bytes);
        assert.equal(reader.subscriber.envelope.producer, this.producers[entry.producer]);
      }, limit);
    if (throws) assert.throws(poll, /as asked/);
    else assert.equal(poll(), expected.length);
    assert.equal(seen, expected.length);
    this.checkTold(reader, place.index);
    const hasMoved = place.position !== reader.taken.position;
    reader.taken = place;
    reader.held += expected.length;
    // What was only passed over is released where nothing is held.
    if (hasMoved && !throws && reader.held === 0) reader.released = place;
    const isOver = this.writers.every(({ finished }) => finished);
    // Whoever looks around moves the tail over a skipped rest behind it, earlier than it has to be.
    const isBeforeSkip = this.entries[this.visible]?.isSkip === true;
    const most = ((isBeforeSkip ? this.head : this.tail) - place.position) * unitBytes;
    const { lagBytes } = reader.subscriber;
    assert.ok(isBeforeSkip ? lagBytes <= most : lagBytes === most, `${lagBytes} of ${most}`);
    if (isBeforeSkip) return;
    assert.equal(reader.subscriber.ended, isOver && place.index === this.visible);
  }

  release(who: number): void {
    const reader = this.reader(who);
    reader.subscriber.release();
    reader.released = reader.taken;
    reader.held = 0;
  }

  /** Leaves the end and takes it again, having closed it or having been killed. */
  reopenPublisher(who: number, killed: boolean): void {
    const writer = this.writer(who);
    const index = who % this.writers.length;
    const [lane] = this.file.lanes;
    if (killed) declareDead(lane, lane.producer(index));
    else writer.publisher.close();
    this.takeBack(writer, killed ? "nothing" : "withdrawn");
    this.advance();
    writer.finished = false;
    writer.publisher = this.openBus(this.producers[index] ?? "").publisher(channelName);
    this.checkLast(who);
    assert.equal(writer.publisher.sequence, this.sequence);
  }

  reopenReader(who: number, killed: boolean): void {
    const reader = this.reader(who);
    const index = who % this.readers.length;
    const [lane] = this.file.lanes;
    if (killed) declareDead(lane, lane.consumer(index));
    else reader.subscriber.close();
    Object.assign(reader, this.openReader(this.consumers[index] ?? "", reader.released));
    assert.equal(reader.subscriber.hadFailed, false);
  }

  checkLast(who: number): void {
    const { publisher, claims, newest } = this.writer(who);
    if (claims.length > 0) return;
    const last = publisher.last();
    if (newest === undefined) {
      const aged = this.originSequence > 0 && who % this.writers.length === 0;
      if (last !== undefined || !this.isShared) {
        assert.deepEqual(last, aged ? new Uint8Array(0) : undefined);
      }
      return;
    }
    // What several produce is kept for its consumers only, and is not there before it is visible.
    const oldest = Math.min(...this.readers.map(({ released }) => released.position));
    const isSure = !this.isShared || (newest.start >= oldest && newest.end <= this.tail);
    if (isSure || last !== undefined) assert.deepEqual(last, newest.bytes);
  }

  finish(who: number): void {
    this.abort(who);
    const writer = this.writer(who);
    writer.publisher.finish();
    writer.finished = true;
  }

  /** In the end, everybody gets everything. */
  close(): void {
    for (const who of this.writers.keys()) this.commit(who);
    for (const who of this.readers.keys()) {
      while (this.reader(who).taken.index < this.entries.length) this.poll(who, 1000);
    }
    for (const bus of this.buses) bus.close();
    this.file.unmap();
  }

  private get isShared(): boolean {
    return this.writers.length > 1;
  }

  private get head(): number {
    return this.entries.at(-1)?.end ?? this.origin;
  }

  private get tail(): number {
    return this.entries[this.visible - 1]?.end ?? this.origin;
  }

  private add(writer: Writer, entry: Entry): void {
    // Of several producers, what one skips is settled when it is claimed.
    if (entry.start > this.head) {
      const state = this.isShared ? "nothing" : "claimed";
      const skipped: Entry = { ...entry, start: this.head, end: entry.start, isSkip: true, state };
      this.entries.push(skipped);
      if (!this.isShared) writer.claims.push(skipped);
    }
    this.entries.push(entry);
    writer.claims.push(entry);
    this.sequence = entry.sequence;
    assert.equal(writer.publisher.sequence, entry.sequence);
  }

  /** No message is told as lost, and nothing as taken back that was not. */
  private checkTold({ lost, withdrawn }: Reader, end: number): void {
    const stateOf = (sequence: number): Entry["state"] | undefined =>
      this.entries.slice(0, end + 1).find((it) => !it.isSkip && it.sequence === sequence)?.state;
    for (const { from, to } of lost.splice(0)) {
      assert.equal(stateOf(from), "nothing", `${from} is no loss`);
      for (let sequence = from; sequence <= to; sequence++) {
        assert.match(stateOf(sequence) ?? "", /withdrawn|nothing/, `${sequence} is told as lost`);
      }
    }
    for (const { from, to } of withdrawn.splice(0)) {
      for (let sequence = from; sequence <= to; sequence++) {
        assert.equal(stateOf(sequence), "withdrawn", `${sequence} was not taken back`);
      }
    }
  }

  private settle(writer: Writer, state: "message" | "withdrawn" | "nothing"): void {
    if (writer.claims.length === 0) return;
    for (const entry of writer.claims.splice(0)) {
      entry.state = entry.isSkip ? "nothing" : state;
      if (entry.state === "message") writer.newest = entry;
    }
    this.advance();
  }

  /** One producer's claims were never there; one of several leaves something, with sequences. */
  private takeBack(writer: Writer, state: "withdrawn" | "nothing"): void {
    if (this.isShared) {
      this.settle(writer, state);
      return;
    }
    this.entries.length -= writer.claims.splice(0).length;
    const newest = this.entries.findLast(({ state }) => state === "message");
    this.sequence = newest?.sequence ?? this.originSequence;
  }

  private advance(): void {
    while (this.visible < this.entries.length) {
      if (this.entries[this.visible]?.state === "claimed") return;
      this.visible++;
    }
  }

  /** Whoever looks around moves the tail over what is skipped, earlier than it has to be. */
  private placeAs(who: number, bytes: Uint8Array, isTaken: boolean): Entry | undefined {
    const entry = this.place(who, bytes);
    if (entry !== undefined || !isTaken) return entry;
    this.advance();
    return this.place(who, bytes);
  }

  /** Where the next record goes; undefined where it would overwrite what is still needed. */
  private place(who: number, bytes: Uint8Array): Entry | undefined {
    const { head, capacity } = this;
    const units = recordHeaderUnits + Math.ceil(bytes.length / unitBytes);
    const rest = capacity - (head % capacity);
    const start = head + (units > rest ? rest : 0);
    const end = start + units;
    // A single producer keeps its newest message, to begin from if it is restarted.
    const aged = this.origin - (this.originSequence > 0 ? recordHeaderUnits : 0);
    const kept = this.isShared ? Infinity : (this.writers[0]?.newest?.start ?? aged);
    const oldest = Math.min(kept, this.tail, ...this.readers.map((it) => it.released.position));
    if (end > oldest + capacity) return undefined;
    const producer = who % this.writers.length;
    const sequence = this.sequence + 1;
    return { producer, sequence, bytes, start, end, isSkip: false, state: "claimed" };
  }

  private writer(who: number): Writer {
    return this.writers[who % this.writers.length] ?? assert.fail();
  }

  /** One that has finished writes nothing before it begins anew. */
  private unfinished(who: number): Writer {
    const writer = this.writer(who);
    if (!writer.finished) return writer;
    const { publisher } = writer;
    const uses = [() => publisher.claim(0), () => publisher.waitForRoomBlocking(0, 0)];
    for (const use of uses) assert.throws(use, (error) => isGaplessError(error, "CLOSED"));
    this.reopenPublisher(who, false);
    return writer;
  }

  private reader(who: number): Reader {
    return this.readers[who % this.readers.length] ?? assert.fail();
  }

  private openBus(service: string): Bus {
    const bus = openAs(this.directory, service, this.settings);
    this.buses.push(bus);
    return bus;
  }

  private openReader(name: string, released: Place): Reader {
    const [lost, withdrawn]: [SequenceRange[], SequenceRange[]] = [[], []];
    const subscriber = this.openBus(name).subscriber(channelName, {
      onLoss: (loss) => lost.push(loss),
      onWithdrawn: (range) => withdrawn.push(range),
    });
    return { subscriber, lost, withdrawn, held: 0, taken: released, released };
  }
}
