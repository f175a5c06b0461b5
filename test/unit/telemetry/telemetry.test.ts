/** A bus as OpenTelemetry metrics, through the real SDK. */
import assert from "node:assert/strict";
import test from "node:test";
import { openInspector } from "gapless/bus";
import { instrumentBus } from "gapless/telemetry";
import { makeDirectory } from "../../support/bus-channel.ts";
import { openTrades, type Changes } from "../../support/bus-seen.ts";
import { openMeter } from "./collector.ts";

const changes: Changes = {
  type: "SPMC",
  consumers: ["ledger", "candles"],
  timestamps: "all",
};

test("each collection reports what is counted in shared memory by then", async (t) => {
  const directory = makeDirectory(t);
  const { meter, collector } = openMeter(t);
  using engine = openTrades(directory, "engine", changes);
  using ledger = openTrades(directory, "ledger", changes);
  using _written = instrumentBus(engine, meter);
  using _read = instrumentBus(ledger, meter);
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  for (let round = 1; round <= 2; round++) {
    for (let count = 0; count < 5; count++) publisher.offer(new Uint8Array(40));
    subscriber.poll(() => undefined, 4);
    subscriber.release();
    const points = await collector.points();
    const at = (name: string): unknown =>
      points.get(`gapless.bus.${name}`)?.map(({ attributes, value }) => [attributes, value]);
    const place = { channel: "trades", priority: 0 };
    assert.deepEqual(at("messages.written"), [[{ ...place, producer: "engine" }, 5 * round]]);
    assert.deepEqual(at("bytes.written"), [[{ ...place, producer: "engine" }, 200 * round]]);
    assert.deepEqual(at("messages.read"), [[{ ...place, consumer: "ledger" }, 4 * round]]);
    assert.deepEqual(at("bytes.read"), [[{ ...place, consumer: "ledger" }, 160 * round]]);
    assert.deepEqual(at("lag.messages"), [[{ ...place, consumer: "ledger" }, round]]);
    assert.deepEqual(at("messages.lost"), [[{ ...place, consumer: "ledger" }, 0]]);
    // `candles` has read nothing: it is what fills the ring.
    assert.deepEqual(at("utilisation"), [[place, (5 * round * 64) / 4096]]);
  }
});

test("a latency is a gauge of percentiles, and a counter of buckets that grow to the count", async (t) => {
  const directory = makeDirectory(t);
  const { meter, collector } = openMeter(t);
  using engine = openTrades(directory, "engine", changes);
  using ledger = openTrades(directory, "ledger", changes);
  using _metrics = instrumentBus(ledger, meter);
  const subscriber = ledger.subscriber("trades");
  assert.equal((await collector.points()).get("gapless.bus.end_to_end.latency")?.length ?? 0, 0);
  const publisher = engine.publisher("trades");
  for (let count = 0; count < 20; count++) publisher.offer(new Uint8Array(8));
  subscriber.poll(() => undefined, 20);
  const points = await collector.points();
  const quantiles = points.get("gapless.bus.end_to_end.latency") ?? [];
  assert.deepEqual(
    quantiles.map(({ attributes }) => attributes["quantile"]),
    ["0.5", "0.99", "0.999", "1"],
  );
  const seconds = quantiles.map(({ value }) => value as number);
  assert.ok(seconds.every((value, index) => value > 0 && value >= (seconds[index - 1] ?? 0)));
  const buckets = points.get("gapless.bus.end_to_end.latency.buckets") ?? [];
  const counts = buckets.map(({ value }) => value as number);
  assert.ok(counts.every((value, index) => value >= (counts[index - 1] ?? 0)));
  assert.deepEqual([buckets.at(-1)?.attributes["le"], counts.at(-1)], ["+Inf", 20]);
  const longest = Number(buckets.find(({ value }) => value === 20)?.attributes["le"]);
  assert.ok(longest >= (seconds[3] ?? Infinity));
});

test("an inspector reports all ends from outside, and one service's where it is named", async (t) => {
  const directory = makeDirectory(t);
  using engine = openTrades(directory, "engine", changes);
  engine.publisher("trades").offer(new Uint8Array(8));
  using inspector = openInspector(directory);
  const readers = async (options?: { service: string }): Promise<unknown[]> => {
    const { meter, collector } = openMeter(t);
    using _metrics = instrumentBus(inspector, meter, options);
    const points = (await collector.points()).get("gapless.bus.messages.read") ?? [];
    return points.map(({ attributes }) => attributes["consumer"]);
  };
  assert.deepEqual(await readers(), ["ledger", "candles"]);
  assert.deepEqual(await readers({ service: "candles" }), ["candles"]);
});

test("a closed bus and disposed metrics report nothing", async (t) => {
  const directory = makeDirectory(t);
  using bus = openTrades(directory, "engine", changes);
  bus.publisher("trades");
  const written = async (isDisposed: boolean): Promise<number> => {
    const { meter, collector } = openMeter(t);
    using metrics = instrumentBus(bus, meter);
    if (isDisposed) metrics[Symbol.dispose]();
    return (await collector.points()).get("gapless.bus.messages.written")?.length ?? 0;
  };
  assert.equal(await written(false), 1);
  assert.equal(await written(true), 0);
  bus.close();
  assert.equal(await written(false), 0);
});
