/** Processes at the ends of a channel that are killed, wherever it happens to hit them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { Publisher, Subscriber } from "gapless/bus";
import type { ChannelFile } from "../../../src/bus/channel-file.ts";
import { seededRandom } from "../../../src/random.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { partyOffset, sleepWord } from "../../../src/bus/layout.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  readNumbered,
  sizeOf,
  until,
  writeNumbered,
  type Settings,
} from "../../support/bus-channel.ts";
import { consumeTask, follow, startWorker, type Worker } from "../../support/bus-processes.ts";
import type { ProduceTask, StayTask, Task } from "../../support/bus-worker.ts";

const sizeMax = 496;
const settings: Settings = { messageSizeMax: sizeMax };
const evicting: Settings = { ...settings, failedConsumer: "evict" };
const never = new AbortController().signal;
const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

function produceTask(directory: string, changes: Partial<ProduceTask> = {}): ProduceTask {
  return {
    kind: "produce",
    directory,
    settings,
    last: Number.MAX_SAFE_INTEGER,
    batch: 1,
    waiting: "async",
    finish: true,
    ...changes,
  };
}

function stayTask(directory: string, end: StayTask["end"], of = settings): StayTask {
  const service = end === "publisher" ? "engine" : "ledger";
  return { kind: "stay", directory, settings: of, service, end };
}

/** Publishes the next message, waiting for room. */
async function publishNext(publisher: Publisher): Promise<void> {
  const number = publisher.sequence + 1;
  const length = sizeOf(number, sizeMax);
  let offset = publisher.claim(length);
  while (offset < 0) {
    await publisher.waitForRoom(length, never);
    offset = publisher.claim(length);
  }
  writeNumbered(publisher.memory, offset, length, number);
  publisher.commit();
}

/** Fills the ring, and returns the number of the last message that went in. */
function fill(publisher: Publisher): number {
  while (true) {
    const number = publisher.sequence + 1;
    const length = sizeOf(number, sizeMax);
    const offset = publisher.claim(length);
    if (offset < 0) return publisher.sequence;
    writeNumbered(publisher.memory, offset, length, number);
    publisher.commit();
  }
}

function takeAll(subscriber: Subscriber, numbers: number[]): void {
  subscriber.poll((memory, offset, length) => {
    numbers.push(readNumbered(memory, offset, length, sizeMax));
  }, 1000);
  subscriber.release();
}

function assertConsecutive(numbers: readonly number[], from: number): void {
  const wrong = numbers.findIndex((number, index) => number !== from + index);
  assert.equal(wrong, -1, `${numbers[wrong]} after ${numbers[wrong - 1]}, seed ${seed}`);
}

test("G3: a producer killed at any moment goes on after its last message, without loss or repeat", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const directory = makeDirectory(t);
  using bus = openAs(directory, "ledger", settings);
  const subscriber = bus.subscriber(channelName);
  const numbers: number[] = [];
  const startNext = (): Worker =>
    startWorker(
      t,
      produceTask(directory, {
        batch: 1 + random.below(4),
        waiting: random.below(2) === 0 ? "async" : "blocking",
      }),
    );
  for (let life = 0; life < 5; life++) {
    const worker = startNext();
    await worker.told("open");
    const wanted = numbers.length + 1 + random.below(3000);
    while (numbers.length < wanted) {
      takeAll(subscriber, numbers);
      if (numbers.length < wanted) await subscriber.wait(100, never);
    }
    // Somewhere in what it does next, with room in the ring or without.
    if (random.below(2) === 0) takeAll(subscriber, numbers);
    await worker.kill();
  }
  takeAll(subscriber, numbers);
  const last = numbers.length + 500;
  const worker = startWorker(t, produceTask(directory, { last }));
  while (!subscriber.ended) {
    takeAll(subscriber, numbers);
    await subscriber.wait(100, never);
  }
  await worker.told("ended");
  assert.equal(numbers.length, last);
  assertConsecutive(numbers, 1);
});

test("G3: a consumer killed at any moment gets again what it has not released, and misses nothing", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed + 1);
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  const publisher = bus.publisher(channelName);
  const over = new AbortController();
  const publishing = (async () => {
    while (!over.signal.aborted) {
      await publishNext(publisher);
      if (publisher.sequence % 16 === 0) await pause(0);
    }
    publisher.finish();
  })();
  let newest = 0;
  const check = ({ numbers }: Worker): void => {
    const [first = newest + 1] = numbers;
    // Four at a time, released when all four are told: at most those come again.
    assert.ok(first <= newest + 1 && first > newest - 4, `${first} after ${newest}, seed ${seed}`);
    assertConsecutive(numbers, first);
    newest = numbers.at(-1) ?? newest;
  };
  for (let life = 0; life < 3; life++) {
    const worker = startWorker(t, consumeTask(directory, settings));
    const wanted = 1 + random.below(500);
    await until("it has taken some", () => worker.numbers.length >= wanted);
    await worker.kill();
    check(worker);
  }
  over.abort();
  const worker = startWorker(t, consumeTask(directory, settings));
  await publishing;
  await worker.told("ended");
  check(worker);
  assert.equal(newest, publisher.sequence);
});

test("a consumer that releases nothing gets everything again", async (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  const publisher = bus.publisher(channelName);
  const last = fill(publisher);
  const first = startWorker(t, consumeTask(directory, settings, { limit: 1, releaseThrough: 3 }));
  await until("it has taken all", () => first.numbers.length === last);
  await first.kill();
  const second = startWorker(t, consumeTask(directory, settings, { releaseThrough: 0 }));
  publisher.finish();
  await second.told("ended");
  assertConsecutive(first.numbers, 1);
  assertConsecutive(second.numbers, 4);
  assert.equal(second.numbers.at(-1), last);
});

for (const waiting of ["async", "blocking"] as const) {
  test(`G6: with failed_consumer = evict, a producer that waits ${waiting} goes on without a dead one`, async (t) => {
    const directory = makeDirectory(t);
    using bus = openAs(directory, "engine", evicting);
    const publisher = bus.publisher(channelName);
    const dead = startWorker(t, stayTask(directory, "subscriber", evicting));
    await dead.told("open");
    fill(publisher);
    // It lives, so it is waited for: that is what the process id in its line says.
    assert.equal(publisher.waitForRoomBlocking(sizeMax, 250), false);
    await dead.kill();
    const before = performance.now();
    if (waiting === "async") await publisher.waitForRoom(sizeMax, never);
    else assert.ok(publisher.waitForRoomBlocking(sizeMax, 60_000));
    // Promised is a second; what is above it here is for other loads on the machine.
    assert.ok(performance.now() - before < 5000);
    for (let count = 0; count < 100; count++) await publishNext(publisher);

    const returned = startWorker(t, consumeTask(directory, evicting));
    assert.equal((await returned.told("open")).hadFailed, true);
    for (let count = 0; count < 100; count++) await publishNext(publisher);
    publisher.finish();
    await returned.told("ended");
    const [first = 0] = returned.numbers;
    assertConsecutive(returned.numbers, first);
    assert.ok(first > 100);
    assert.equal(returned.numbers.at(-1), publisher.sequence);
  });
}

test("with failed_consumer = evict, a consumer that lives is waited for, and one that came back too", async (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", evicting);
  const publisher = bus.publisher(channelName);
  const dead = startWorker(t, stayTask(directory, "subscriber", evicting));
  await dead.told("open");
  fill(publisher);
  await dead.kill();
  const last = publisher.sequence;
  using ledger = openAs(directory, "ledger", evicting);
  const subscriber = ledger.subscriber(channelName);
  assert.equal(subscriber.hadFailed, false);
  assert.equal(publisher.waitForRoomBlocking(sizeMax, 250), false);
  const numbers: number[] = [];
  takeAll(subscriber, numbers);
  assertConsecutive(numbers, 1);
  assert.equal(numbers.length, last);
});

test("with failed_consumer = evict, a dead consumer that is in nobody's way is not evicted", (t) => {
  const directory = makeDirectory(t);
  const both: Settings = { ...evicting, consumers: ["ledger", "candles"] };
  const file = openFile(directory, both);
  using engine = openAs(directory, "engine", both);
  using ledger = openAs(directory, "ledger", both);
  using candles = openAs(directory, "candles", both);
  const publisher = engine.publisher(channelName);
  // It lives, and takes nothing.
  ledger.subscriber(channelName);
  const dead = candles.subscriber(channelName);
  const last = fill(publisher);
  const numbers: number[] = [];
  takeAll(dead, numbers);
  declareDead(file.lanes[0], file.lanes[0].consumer(1));
  assert.equal(publisher.waitForRoomBlocking(sizeMax, 250), false);
  assert.equal(numbers.at(-1), last);
  assert.equal(candles.subscriber(channelName).hadFailed, false);
  file.unmap();
});

test("with failed_consumer = wait, the producer waits for a dead consumer, and nothing is lost", async (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  const publisher = bus.publisher(channelName);
  const first = startWorker(t, consumeTask(directory, settings, { limit: 1 }));
  await publishNext(publisher);
  await until("it has taken one", () => first.numbers.length === 1);
  await first.kill();
  fill(publisher);
  let hasRoom = false;
  const waiting = publisher.waitForRoom(sizeMax, never).then(() => (hasRoom = true));
  await pause(350);
  assert.equal(hasRoom, false);
  const second = startWorker(t, consumeTask(directory, settings));
  assert.equal((await second.told("open")).hadFailed, false);
  await waiting;
  publisher.finish();
  await second.told("ended");
  const [next = 0] = second.numbers;
  // The kill may have come between the telling of the first and its release.
  assert.ok(next === 1 || next === 2);
  assertConsecutive(second.numbers, next);
  assert.equal(second.numbers.at(-1), publisher.sequence);
});

function open(directory: string, end: StayTask["end"]): { close(): void } {
  const bus = openAs(directory, end === "publisher" ? "engine" : "ledger", settings);
  try {
    bus[end](channelName);
  } catch (error) {
    bus.close();
    throw error;
  }
  return bus;
}

function assertTaken(directory: string, end: StayTask["end"], pid: number | undefined): void {
  assert.throws(
    () => open(directory, end),
    (error) => {
      assert.ok(isGaplessError(error, "ALREADY_OPEN"), String(error));
      assert.equal(error.advice, "repair");
      assert.match(error.message, new RegExp(`process ${pid}\\b`));
      return true;
    },
  );
}

for (const end of ["publisher", "subscriber"] as const) {
  const ownerOf = ({ lanes: [lane] }: ChannelFile): number =>
    (end === "publisher" ? lane.producer(0) : lane.consumer(0)) + partyOffset.owner;

  test(`a ${end} that a live process has is refused, and taken over once that is dead`, async (t) => {
    const directory = makeDirectory(t);
    const file = openFile(directory, settings);
    const [{ words }] = file.lanes;
    const owner = ownerOf(file);
    const worker = startWorker(t, stayTask(directory, end));
    await worker.told("open");
    const { pid = 0 } = worker.child;
    assertTaken(directory, end, pid);
    // Stopped is not dead.
    worker.child.kill("SIGSTOP");
    assertTaken(directory, end, pid);
    // Nor is one that has got only half-way in.
    words[owner] = -pid;
    assertTaken(directory, end, pid);
    await worker.kill();
    open(directory, end).close();
    words[owner] = -pid;
    open(directory, end).close();
    // Another process, with the same id, that started at another time.
    words[owner] = process.pid;
    words[owner + 1] = 1;
    open(directory, end).close();

    const held = open(directory, end);
    assertTaken(directory, end, process.pid);
    const late = startWorker(t, stayTask(directory, end));
    await until("it is told", () => late.reports.length > 0);
    const [report] = late.reports;
    assert.ok(report?.event === "failed" && report.code === "ALREADY_OPEN", JSON.stringify(report));
    held.close();
    file.unmap();
  });

  test(`a ${end} that a zombie has is taken over`, async (t) => {
    const directory = makeDirectory(t);
    const file = openFile(directory, settings);
    const [{ words }] = file.lanes;
    const owner = ownerOf(file);
    const task: Task = stayTask(directory, end);
    const program = path.join(import.meta.dirname, "../../support/bus-worker.ts");
    // `sleep` has the worker for a child, and never asks what became of it.
    const parent = spawn(
      "/bin/sh",
      [
        "-c",
        '"$0" "$@" & exec sleep 300',
        process.execPath,
        "--conditions=source",
        program,
        JSON.stringify(task),
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    t.after(() => parent.kill("SIGKILL"));
    await follow(parent).told("open");
    const pid = words[owner] ?? 0;
    assert.ok(pid > 0 && pid !== parent.pid);
    assertTaken(directory, end, pid);
    process.kill(pid, "SIGKILL");
    const isZombie = (): boolean => / Z /.test(fs.readFileSync(`/proc/${pid}/stat`, "latin1"));
    await until("it is a zombie", isZombie);
    open(directory, end).close();
    // Half-way in, too.
    words[owner] = -pid;
    open(directory, end).close();
    assert.ok(isZombie());
    file.unmap();
  });
}

test("a producer that is killed in its sleep leaves no flag that keeps the consumer busy", async (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, settings);
  const [{ words }] = file.lanes;
  const worker = startWorker(t, produceTask(directory));
  await until("it sleeps", () => words[sleepWord.producersAsleep] === 1);
  await worker.kill();
  using bus = openAs(directory, "ledger", settings);
  const subscriber = bus.subscriber(channelName);
  takeAll(subscriber, []);
  assert.equal(words[sleepWord.producersAsleep], 0);
  const wakes = words[sleepWord.producersWakes];
  subscriber.release();
  assert.equal(words[sleepWord.producersWakes], wakes);
  file.unmap();
});
