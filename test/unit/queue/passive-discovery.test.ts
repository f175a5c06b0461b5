import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError } from "../../../src/errors.ts";
import {
  PassiveDiscovery,
  type PassiveDiscoveryOptions,
} from "../../../src/queue/passive-discovery.ts";
import { openPublisher } from "../../../src/queue/queue.ts";
import { openSubscriber, type Subscriber } from "../../../src/queue/subscriber.ts";
import { startChild, until, type Child } from "../../support/queue-children.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const options = { segmentBytes: 4096, preallocate: false };

interface Heard {
  readonly discovery: PassiveDiscovery;
  readonly events: string[];
  readonly subscribers: Subscriber[];
}

function discover(
  context: TestContext,
  directory: string,
  changes: PassiveDiscoveryOptions = {},
): Heard {
  const discovery = new PassiveDiscovery(directory, "ledger", { pollIntervalMs: 5, ...changes });
  context.after(() => discovery.close());
  const events: string[] = [];
  const subscribers: Subscriber[] = [];
  discovery.on("waiting", () => events.push("waiting"));
  discovery.on("connected", (subscriber) => {
    events.push("connected");
    subscribers.push(subscriber);
  });
  discovery.on("disconnected", (reason) => events.push(reason));
  discovery.on("failure", ({ code }) => events.push(code));
  return { discovery, events, subscribers };
}

async function hold(context: TestContext, directory: string): Promise<Child> {
  const child = startChild(context, "hold", { directory, options });
  await child.next();
  return child;
}

async function append(child: Child, count: number): Promise<void> {
  child.tell(`append ${count}`);
  assert.equal(await child.next(), "append");
}

function read(subscriber: Subscriber | undefined, from: number, to: number): void {
  for (let sequence = from; sequence <= to; sequence++) {
    const message = subscriber?.next();
    assert.equal(message?.sequence, sequence);
    assert.deepEqual(message.payload, payloadOf(sequence, 100));
  }
}

const inScratch = (context: TestContext): string =>
  path.join(makeFastDirectory(context), "not", "there", "yet");

test("a reader finds the queue once it is made, and goes on behind the death of its writer", async (t) => {
  const directory = inScratch(t);
  const { discovery, events, subscribers } = discover(t, directory);
  await until("it waits", () => events.length === 1);
  await pause(50);
  assert.deepEqual(events, ["waiting"]);
  assert.equal(discovery.connected, false);

  const first = await hold(t, directory);
  await until("it is connected", () => discovery.connected);
  await append(first, 100);
  read(subscribers[0], 1, 60);
  await first.kill();
  await until("it is disconnected", () => !discovery.connected);
  // What is there can be read, whoever wrote it.
  read(subscribers[0], 61, 100);
  await pause(50);
  assert.deepEqual(events, ["waiting", "connected", "writer-lock-lost", "waiting"]);

  const second = await hold(t, directory);
  await append(second, 10);
  await until("it is connected again", () => discovery.connected);
  assert.equal(subscribers[1], subscribers[0]);
  read(subscribers[1], 101, 110);
  assert.equal(events.at(-1), "connected");
  assert.equal(events.length, 5);
});

test("a writer that falls silent is told of, and when it is back", async (t) => {
  const directory = inScratch(t);
  const child = await hold(t, directory);
  const { discovery, events } = discover(t, directory);
  await until("it is connected", () => discovery.connected);
  await pause(500);
  assert.deepEqual(events, ["connected"]);
  process.kill(child.pid, "SIGSTOP");
  await until("it is disconnected", () => !discovery.connected);
  assert.deepEqual(events.slice(1, 2), ["heartbeat-stale"]);
  process.kill(child.pid, "SIGCONT");
  await until("it is connected again", () => discovery.connected);
  assert.deepEqual(events, ["connected", "heartbeat-stale", "waiting", "connected"]);
});

test("a queue that was removed and made anew has a reader of its own", async (t) => {
  const directory = inScratch(t);
  const child = await hold(t, directory);
  await append(child, 5);
  const { discovery, events, subscribers } = discover(t, directory);
  await until("it is connected", () => discovery.connected);
  read(subscribers[0], 1, 5);
  fs.renameSync(directory, `${directory}-old`);
  await until("it is disconnected", () => !discovery.connected);
  assert.deepEqual(events.slice(0, 2), ["connected", "segment-missing"]);

  await using publisher = openPublisher(directory, options);
  publisher.append(1, payloadOf(1, 100));
  await until("it is connected again", () => discovery.connected);
  assert.equal(subscribers[0]?.isClosed, true);
  read(subscribers[1], 1, 1);
});

test("another writer between two looks is another connection", async (t) => {
  const directory = inScratch(t);
  const first = openPublisher(directory, options);
  const { discovery, events, subscribers } = discover(t, directory);
  await until("it is connected", () => discovery.connected);
  await first.close();
  await using publisher = openPublisher(directory, options);
  await until("it has seen that", () => events.length > 1 && discovery.connected);
  assert.deepEqual(
    events.filter((event) => event !== "waiting"),
    ["connected", "writer-lock-lost", "connected"],
  );
  publisher.append(1, payloadOf(1, 100));
  read(subscribers[1], 1, 1);
});

test("a reader that its user has closed is opened again at the next connection", async (t) => {
  const directory = inScratch(t);
  const first = openPublisher(directory, options);
  const { discovery, subscribers } = discover(t, directory);
  await until("it is connected", () => discovery.connected);
  await subscribers[0]?.close();
  await pause(50);
  assert.equal(discovery.connected, true);
  await first.close();
  await until("it is disconnected", () => !discovery.connected);
  await using _publisher = openPublisher(directory, options);
  await until("it is connected again", () => discovery.connected);
  assert.equal(subscribers[1]?.isClosed, false);
});

test("a reader that cannot be opened is told of once, and opened when it can be", async (t) => {
  const directory = inScratch(t);
  await using _publisher = openPublisher(directory, options);
  const other = openSubscriber(directory, "ledger");
  const { discovery, events } = discover(t, directory);
  await until("it is told", () => events.includes("ALREADY_OPEN"));
  await pause(200);
  assert.deepEqual(events.toSorted(), ["ALREADY_OPEN", "waiting"]);
  await other.close();
  await until("it is connected", () => discovery.connected);
});

test("nothing is told once it is closed, or aborted, and its reader is closed", async (t) => {
  const directory = inScratch(t);
  const publisher = openPublisher(directory, options);
  const abort = new AbortController();
  const { discovery, events, subscribers } = discover(t, directory, { signal: abort.signal });
  const late = new PassiveDiscovery(directory, "late", { signal: AbortSignal.abort() });
  late.on("connected", () => assert.fail("it was aborted before it began"));
  await until("it is connected", () => discovery.connected);
  abort.abort();
  await publisher.close();
  await pause(50);
  assert.deepEqual(events, ["connected"]);
  assert.equal(subscribers[0]?.isClosed, true);
  assert.equal(discovery.connected, false);
});

test("a listener may close it, and an error of one stays the listener's own", async (t) => {
  const directory = inScratch(t);
  const { discovery, events } = discover(t, directory);
  discovery.on("waiting", () => void discovery.close());
  await until("it waits", () => events.length === 1);
  await using _publisher = openPublisher(directory, options);
  await pause(50);
  assert.deepEqual(events, ["waiting"]);
});

test("as long as all is well, a look takes the status of one file", async (t) => {
  const directory = inScratch(t);
  const child = await hold(t, directory);
  await append(child, 1);
  const { discovery, events } = discover(t, directory);
  await until("it is connected", () => discovery.connected);
  const names = ["readFileSync", "openSync", "existsSync", "readdirSync"] as const;
  const others = names.map((name) => t.mock.method(fs, name).mock);
  const stats = t.mock.method(fs, "statSync").mock;
  const schedule = t.mock.method(globalThis, "setTimeout").mock;
  // On a busy machine a beat may be late, and then it looks closely.
  await until("all is well for a while", async () => {
    for (const mock of [...others, stats, schedule]) mock.resetCalls();
    await pause(100);
    const looks = schedule.callCount();
    assert.ok(stats.callCount() <= 3 * looks);
    const isAlone = others.every((mock) => mock.callCount() === 0);
    return isAlone && looks > 5 && stats.callCount() <= looks;
  });
  assert.deepEqual(events, ["connected"]);
});

test("nonsense is refused", () => {
  for (const wrong of [{ pollIntervalMs: 0 }, { ttlMs: -1 }, { pollIntervalMs: NaN }]) {
    assert.throws(
      () => new PassiveDiscovery("/nowhere", "ledger", wrong),
      (error) => isGaplessError(error, "CONFIG_INVALID"),
    );
  }
});
