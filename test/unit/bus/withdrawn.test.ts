/** Claims that one of several producers takes back: sequences are used up, and nothing is lost. */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import type { Publisher, Subscriber } from "gapless/bus";
import type { ChannelFile } from "../../../src/bus/channel-file.ts";
import { consumerOffset, failed } from "../../../src/bus/layout.ts";
import { readLosses } from "../../../src/bus/losses.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

const shared: Settings = { producers: ["engine", "router"] };

/** A channel of two producers, and what its consumer is given and told, in one row. */
class Scene {
  readonly file: ChannelFile;
  readonly publisher: Publisher;
  readonly told: string[] = [];
  subscriber: Subscriber;
  private readonly open: (service: string) => ReturnType<typeof openAs>;

  constructor(context: TestContext, changes: Settings = {}) {
    const directory = makeDirectory(context);
    const settings = { ...shared, ...changes };
    this.file = openFile(directory, settings);
    this.open = (service) => {
      const bus = openAs(directory, service, settings);
      context.after(() => bus.close());
      return bus;
    };
    context.after(() => this.file.unmap());
    this.publisher = this.open("engine").publisher(channelName);
    this.subscriber = this.come();
  }

  /** Publishes and takes back by turns: `m` a message, `b` a claim that is taken back. */
  write(what: string, bytes = 8): void {
    for (const kind of what) {
      assert.ok(this.publisher.claim(bytes) >= 0);
      if (kind === "m") this.publisher.commit();
      else this.publisher.abort();
    }
  }

  /** Claims that a producer leaves which dies. */
  abandon(count: number): void {
    const router = this.open("router").publisher(channelName);
    for (let claim = 0; claim < count; claim++) router.claim(8);
    const [lane] = this.file.lanes;
    declareDead(lane, lane.producer(1));
    this.open("router").publisher(channelName).close();
  }

  /** The consumer as it is after it was killed, or has left. */
  come(options: { topics?: readonly string[] } = {}): Subscriber {
    const [lane] = this.file.lanes;
    declareDead(lane, lane.consumer(0));
    this.subscriber = this.open("ledger").subscriber(channelName, {
      ...options,
      onLoss: ({ cause, from, to, messages }) => {
        assert.equal(messages, to - from + 1);
        this.told.push(`${cause} ${from}-${to}`);
      },
      onWithdrawn: ({ from, to }) => this.told.push(`back ${from}-${to}`),
    });
    return this.subscriber;
  }

  /** Everything that is given and told by and by, until there is nothing more. */
  take(): string[] {
    const { subscriber, told } = this;
    while (subscriber.poll(() => told.push(`${subscriber.envelope.sequence}`), 100) > 0);
    return told.splice(0);
  }

  release(): void {
    this.subscriber.release();
  }

  get lost(): number {
    const [lane] = this.file.lanes;
    return lane.doubles[(lane.consumer(0) + consumerOffset.lost) / 2] ?? NaN;
  }
}

test("what one of several producers takes back is no loss, and is told to who asks for it", (t) => {
  const scene = new Scene(t);
  scene.write("mbbmb");
  assert.deepEqual(scene.take(), ["1", "back 2-3", "4"]);
  scene.write("m");
  assert.deepEqual(scene.take(), ["back 5-5", "6"]);
  assert.deepEqual([scene.lost, readLosses(scene.file.lanes[0]).length], [0, 0]);
});

test("what a lone producer takes back was never there: nothing is told", (t) => {
  const scene = new Scene(t, { producers: ["engine"] });
  scene.write("mbbmb");
  assert.deepEqual(scene.take(), ["1", "2"]);
});

test("claims that an end closes with are taken back", (t) => {
  const scene = new Scene(t);
  scene.publisher.claim(8);
  scene.publisher.claim(8);
  scene.publisher.close();
  scene.abandon(0);
  assert.deepEqual(scene.take(), []);
  assert.equal(scene.subscriber.lagBytes, 0);
  assert.deepEqual(readLosses(scene.file.lanes[0]), []);
});

test("what was taken back is no loss to a successor, wherever its forebear was killed", (t) => {
  for (let taken = 0; taken <= 3; taken++) {
    for (let released = 0; released <= taken; released++) {
      const scene = new Scene(t);
      // What each poll finds: up to here it has taken, and released.
      const parts = ["mb", "bmbb", "b"];
      for (const [index, part] of parts.entries()) {
        scene.write(part);
        if (index < taken) scene.take();
        if (index < released) scene.release();
      }
      scene.come();
      scene.write("bm");
      const row = ["1", "back 2-3", "4", "back 5-8", "9"].slice([0, 1, 3, 3][released]);
      assert.deepEqual(scene.take(), row, `${taken} taken, ${released} released`);
      assert.equal(scene.lost, 0);
    }
  }
});

test("where a forebear has said how far it came and not that it needs no more, nothing is lost", (t) => {
  const scene = new Scene(t);
  const [lane] = scene.file.lanes;
  const position = lane.consumer(0) + consumerOffset.position;
  scene.write("mbmbb");
  const before = Atomics.load(lane.words, position);
  assert.deepEqual(scene.take(), ["1", "back 2-2", "3"]);
  scene.release();
  // As if it had died between the two.
  Atomics.store(lane.words, position, before);
  scene.come();
  scene.write("m");
  assert.deepEqual(scene.take(), ["1", "back 2-2", "3", "back 4-5", "6"]);
  assert.equal(scene.lost, 0);
});

test("what the dead have left is a loss, beside what was taken back before it", (t) => {
  const scene = new Scene(t);
  scene.write("mb");
  scene.abandon(2);
  scene.write("m");
  assert.deepEqual(scene.take(), ["1", "back 2-2", "skipped 3-4", "5"]);
  assert.equal(scene.lost, 2);
});

test("what was taken back behind a loss is told with it, and a loss is never passed over", (t) => {
  const scene = new Scene(t);
  scene.write("m");
  scene.abandon(1);
  scene.write("b");
  scene.take();
  scene.release();
  scene.come();
  scene.abandon(1);
  scene.write("bmbm");
  assert.deepEqual(scene.take(), ["skipped 2-5", "6", "back 7-7", "8"]);
  assert.equal(scene.lost, 4);
});

test("a dropped message is a loss, also behind what was taken back", (t) => {
  const backpressure = { mode: "DropNewest", high_water: 0.9, low_water: 0.9 } as const;
  const scene = new Scene(t, { keys: { backpressure } });
  scene.write("b", 400);
  while (scene.publisher.offer(new Uint8Array(400)) > 0);
  const dropped = scene.publisher.sequence;
  const [first, ...rest] = scene.take();
  assert.deepEqual([first, rest.length], ["back 1-1", dropped - 2]);
  scene.release();
  scene.write("bm");
  assert.deepEqual(scene.take(), [`skipped ${dropped}-${dropped + 1}`, `${dropped + 2}`]);
});

test("a consumer of some topics is told of what was taken back among the others", (t) => {
  const scene = new Scene(t);
  scene.come({ topics: ["eu"] });
  scene.write("mbmb");
  scene.publisher.offer(new Uint8Array(8), scene.publisher.topic("eu"));
  assert.deepEqual(scene.take(), ["back 2-2", "back 4-4", "5"]);
  assert.equal(scene.lost, 0);
});

test("a consumer that copies passes over what was taken back, wherever its window ends", (t) => {
  const scene = new Scene(t, { keys: { backpressure: { mode: "DropOldest" } } });
  let sequence = 0;
  for (let round = 0; round < 200; round++) {
    scene.write("bm", (round * 56) % 497);
    sequence += 2;
    assert.deepEqual(scene.take(), [`back ${sequence - 1}-${sequence - 1}`, `${sequence}`]);
  }
  scene.write("bmbbmb", 200);
  const told = scene.take();
  const from = sequence + 1;
  const row = [
    `back ${from}-${from}`,
    `${from + 1}`,
    `back ${from + 2}-${from + 3}`,
    `${from + 4}`,
  ];
  assert.deepEqual(told, row);
  assert.equal(scene.lost, 0);
});

test("a consumer that had failed loses what was overwritten, and no more of what was taken back", (t) => {
  const scene = new Scene(t, { failedConsumer: "evict" });
  const [lane] = scene.file.lanes;
  const state = lane.consumer(0) + consumerOffset.state;
  scene.write("mb");
  assert.deepEqual(scene.take(), ["1"]);
  scene.release();
  lane.words[state] = (lane.words[state] ?? 0) | failed;
  for (let count = 0; count < 20; count++) scene.write("m", 496);
  const told = scene.take();
  assert.equal(told[0], "back 2-2");
  assert.match(told[1] ?? "", /^overwritten 3-/);
  assert.equal(told.at(-1), "22");
});

test("what is taken back over and over leaves room, also where nothing is ever published", (t) => {
  const scene = new Scene(t);
  for (let round = 0; round < 100; round++) {
    scene.write("b", 400);
    assert.deepEqual(scene.take(), []);
  }
  scene.write("m");
  assert.deepEqual(scene.take(), ["back 1-100", "101"]);
});
