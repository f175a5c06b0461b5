/** What is seen of channels, by their own processes and from outside. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import diagnostics from "node:diagnostics_channel";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import {
  BACK_PRESSURED,
  busChannelName,
  openInspector,
  type BusEvent,
  type LaneSnapshot,
} from "gapless/bus";
import { consumerWord, descriptionWord, partyOffset } from "../../../src/bus/layout.ts";
import { makeDirectory } from "../../support/bus-channel.ts";
import { onlyLane, openTrades, type Changes } from "../../support/bus-seen.ts";

const message = new Uint8Array(40).fill(1);

/** Without what changes from one look to the next. */
function still({ producers, consumers, ...lane }: LaneSnapshot): object {
  const quiet = { silenceMs: 0 };
  return {
    ...lane,
    producers: producers.map((party) => ({ ...party, ...quiet })),
    consumers: consumers.map((party) => ({ ...party, ...quiet })),
  };
}

test("from outside a channel looks as it does to its own processes, without a configuration", (t) => {
  const directory = makeDirectory(t);
  const changes: Changes = {
    type: "MPMC",
    producers: ["engine", "auction"],
    consumers: ["ledger", "candles"],
    priorities: 2,
    timestamps: "off",
    backpressure: { mode: "DropNewest" },
  };
  using engine = openTrades(directory, "engine", changes);
  using ledger = openTrades(directory, "ledger", changes);
  using inspector = openInspector(directory);
  const publisher = engine.publisher("trades", { priority: 1 });
  const subscriber = ledger.subscriber("trades");
  for (let count = 0; count < 3; count++) publisher.offer(message);
  subscriber.poll(() => undefined, 1);
  subscriber.release();

  const inside = engine.inspect();
  const outside = inspector.inspect();
  assert.equal(inside.service, "engine");
  assert.equal(outside.service, undefined);
  const [channel] = outside.channels;
  assert.ok(channel);
  const { lanes: insideLanes = [], ...insideRules } = inside.channels[0] ?? {};
  const { lanes: outsideLanes, ...outsideRules } = channel;
  assert.deepEqual(outsideRules, insideRules);
  assert.deepEqual(outsideLanes.map(still), insideLanes.map(still));

  const { type, isDescribed, backpressure } = channel;
  assert.deepEqual(
    { type, isDescribed, backpressure },
    {
      type: "MPMC",
      isDescribed: true,
      backpressure: "DropNewest",
    },
  );
  const lane = outsideLanes[1];
  assert.ok(lane);
  assert.equal(lane.sequence, 3);
  assert.equal(lane.usedBytes, 3 * 56);
  assert.equal(lane.utilisation, (3 * 56) / 4096);
  const seen = lane.consumers.map(({ name, state, lag, lagBytes }) => [name, state, lag, lagBytes]);
  assert.deepEqual(seen, [
    ["ledger", "reading", 2, 2 * 56],
    ["candles", "absent", 3, 3 * 56],
  ]);
  const [first, second] = lane.producers;
  assert.deepEqual([first?.state, first?.messages, first?.bytes], ["active", 3, 120]);
  assert.equal(first?.pid, process.pid);
  assert.deepEqual([second?.name, second?.state], ["auction", "absent"]);
});

test("a file that tells no names, as another language may make it, shows parties by number", (t) => {
  const directory = makeDirectory(t);
  openTrades(directory, "engine").publisher("trades").close();
  const file = path.join(directory, "trades.ring");
  const bytes = fs.readFileSync(file);
  bytes.writeInt32LE(0, descriptionWord.type * 4);
  bytes.writeInt32LE(0, (consumerWord(1, 0) + partyOffset.heartbeat) * 4);
  fs.writeFileSync(file, bytes);
  using inspector = openInspector(directory);
  const snapshot = inspector.inspect();
  assert.equal(snapshot.channels[0]?.isDescribed, false);
  assert.deepEqual(
    onlyLane(snapshot).producers.map(({ name }) => name),
    ["0"],
  );
  const { state, silenceMs } = onlyLane(snapshot).consumers[0] ?? {};
  assert.deepEqual([state, silenceMs], ["absent", 0]);
});

test("names of another channel's settings are not believed", (t) => {
  const directory = makeDirectory(t);
  openTrades(directory, "engine").publisher("trades").close();
  fs.renameSync(path.join(directory, "trades.ring"), path.join(directory, "orders.ring"));
  using inspector = openInspector(directory);
  assert.equal(inspector.inspect().channels[0]?.isDescribed, false);
});

test("an end is absent, then there, then left; a stream that is read to its end has ended", (t) => {
  const directory = makeDirectory(t);
  using bus = openTrades(directory, "engine");
  const publisher = bus.publisher("trades");
  const states = (): unknown[] => {
    const { producers, consumers } = onlyLane(bus.inspect());
    return [producers[0]?.state, consumers[0]?.state];
  };
  assert.deepEqual(states(), ["active", "absent"]);
  using ledger = openTrades(directory, "ledger");
  const subscriber = ledger.subscriber("trades");
  assert.deepEqual(states(), ["active", "reading"]);
  publisher.offer(message);
  publisher.finish();
  assert.deepEqual(states(), ["finished", "reading"]);
  subscriber.poll(() => undefined, 1);
  subscriber.release();
  assert.deepEqual(states(), ["finished", "ended"]);
  using next = openTrades(directory, "engine");
  publisher.close();
  next.publisher("trades").close();
  subscriber.close();
  assert.deepEqual(states(), ["left", "left"]);
});

test("a killed consumer is dead, then failed once a producer needs its room, which is an event", async (t) => {
  const directory = makeDirectory(t);
  const program = `
    const { openBus } = await import("gapless/bus");
    const [directory, channels] = JSON.parse(process.argv[1]);
    globalThis.bus = openBus({ directory, channels }, { service: "ledger" });
    bus.subscriber("trades");
    console.log("open");
    setInterval(() => undefined, 1000);`;
  const channels = {
    trades: {
      type: "SPSC",
      producer: "engine",
      consumer: "ledger",
      buffer_size: 4096,
      message_size_max: 100,
    },
  };
  const args = ["--conditions=source", "--input-type=module", "-e", program];
  const child = spawn(process.execPath, [...args, JSON.stringify([directory, channels])], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  using bus = openTrades(directory, "engine");
  const publisher = bus.publisher("trades");
  child.kill("SIGKILL");
  await once(child, "close");

  const ledger = () => onlyLane(bus.inspect()).consumers[0];
  assert.deepEqual([ledger()?.state, ledger()?.pid], ["dead", child.pid]);
  const events: BusEvent[] = [];
  const listen = (event: unknown): void => void events.push(event as BusEvent);
  diagnostics.subscribe(busChannelName, listen);
  t.after(() => diagnostics.unsubscribe(busChannelName, listen));
  while (publisher.offer(message) !== BACK_PRESSURED);
  await publisher.waitForRoom(40, AbortSignal.timeout(10_000));
  assert.equal(ledger()?.state, "failed");
  assert.equal(bus.health().status, "Unhealthy");
  assert.deepEqual(
    events.map(({ event }) => event),
    ["consumer failed"],
  );
  assert.deepEqual(events[0], {
    event: "consumer failed",
    channel: "trades",
    priority: 0,
    consumer: "ledger",
    from: 1,
  });
});

test("what was dropped is no lag of a consumer that has read all there is", (t) => {
  const directory = makeDirectory(t);
  const changes: Changes = { backpressure: { mode: "DropNewest" } };
  using engine = openTrades(directory, "engine", changes);
  using ledger = openTrades(directory, "ledger", changes);
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  for (let count = 0; count < 200; count++) publisher.offer(message);
  const written = subscriber.poll(() => undefined, 1000);
  subscriber.release();
  const { consumers, producers, sequence, losses } = onlyLane(engine.inspect());
  assert.equal(sequence, 200);
  assert.equal(producers[0]?.dropped, 200 - written);
  assert.deepEqual([consumers[0]?.lag, consumers[0]?.lagBytes], [0, 0]);
  assert.equal(subscriber.lag, 0);
  assert.deepEqual(
    losses.map(({ cause, from, to }) => [cause, from, to]),
    [["dropped", written + 1, 200]],
  );
});

test("latencies are seen with their buckets", (t) => {
  const directory = makeDirectory(t);
  const changes: Changes = { timestamps: "all" };
  using engine = openTrades(directory, "engine", changes);
  using ledger = openTrades(directory, "ledger", changes);
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  for (let count = 0; count < 10; count++) publisher.offer(message);
  subscriber.poll(() => undefined, 100);
  const latency = onlyLane(ledger.inspect()).consumers[0]?.endToEndLatency;
  assert.ok(latency);
  assert.equal(latency.count, 10);
  assert.equal(
    latency.buckets.reduce((sum, { count }) => sum + count, 0),
    10,
  );
  assert.equal(latency.buckets.at(-1)?.belowNs, latency.maxNs);
});

test("a wish that is not met is an event, a note of health, and seen from outside", (t) => {
  const directory = makeDirectory(t);
  const events: BusEvent[] = [];
  const listen = (event: unknown): void => void events.push(event as BusEvent);
  diagnostics.subscribe(busChannelName, listen);
  t.after(() => diagnostics.unsubscribe(busChannelName, listen));
  const changes = { numa_node: 1023 };
  using bus = openTrades(directory, "engine", changes);
  bus.publisher("trades");
  assert.deepEqual(
    events.map(({ event }) => event),
    ["wish unmet"],
  );
  const { status, notes } = bus.health();
  assert.equal(status, "Healthy");
  assert.match(notes.join(), /channel trades is without numa_node: /);
  using inspector = openInspector(directory);
  assert.deepEqual(onlyLane(inspector.inspect()).producers[0]?.unmet, ["numa_node"]);
});

test("an inspector sees channels come, be made anew and go, and says what it cannot read", (t) => {
  const directory = makeDirectory(t);
  using inspector = openInspector(directory);
  const names = (): string[] => inspector.inspect().channels.map(({ name }) => name);
  assert.deepEqual(names(), []);
  const file = path.join(directory, "trades.ring");
  for (let time = 0; time < 2; time++) {
    using bus = openTrades(directory, "engine");
    for (let count = 0; count <= time; count++) bus.publisher("trades").close();
    assert.deepEqual(names(), ["trades"]);
    assert.equal(onlyLane(inspector.inspect()).sequence, 0);
    fs.rmSync(file);
    assert.deepEqual(names(), []);
  }
  fs.writeFileSync(file, new Uint8Array(8192));
  const { channels, unreadable } = inspector.inspect();
  assert.deepEqual(channels, []);
  assert.match(unreadable[0]?.reason ?? "", /does not begin with GAPLRING/);
});
