/** How a bus is judged by what was seen of it. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import {
  judgeHealth,
  loadBusFile,
  openInspector,
  type BusSnapshot,
  type ConsumerSnapshot,
} from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { makeDirectory } from "../../support/bus-channel.ts";
import { openTrades, type Changes } from "../../support/bus-seen.ts";

interface Seen {
  readonly highWater?: number;
  readonly utilisation?: number;
  readonly consumer?: Partial<ConsumerSnapshot>;
}

/** A bus that is well, but for what a test changes of it. */
function seen(
  directory: string,
  { utilisation = 0, highWater = 1, consumer = {} }: Seen,
): BusSnapshot {
  using bus = openTrades(directory, "ledger");
  bus.subscriber("trades");
  const snapshot = bus.inspect();
  return {
    ...snapshot,
    channels: snapshot.channels.map((channel) => ({
      ...channel,
      highWater,
      lanes: channel.lanes.map((lane) => ({
        ...lane,
        utilisation,
        consumers: lane.consumers.map((one) => ({ ...one, ...consumer })),
      })),
    })),
  };
}

const cases = [
  [{}, "Healthy", []],
  [{ utilisation: 0.9 }, "Healthy", []],
  [{ utilisation: 0.901 }, "Degraded", ["utilisation"]],
  [{ utilisation: 0.72, highWater: 0.8 }, "Healthy", []],
  [{ utilisation: 0.73, highWater: 0.8 }, "Degraded", ["utilisation"]],
  [{ utilisation: 0.46, highWater: 0.5 }, "Degraded", ["utilisation"]],
  [{ consumer: { state: "dead" } }, "Healthy", []],
  [{ consumer: { state: "dead", lagBytes: 56 } }, "Degraded", ["dead"]],
  [{ consumer: { state: "dead", lagBytes: 56, silenceMs: 60_000 } }, "Unhealthy", ["silent"]],
  [{ consumer: { state: "left", lagBytes: 56 } }, "Healthy", []],
  [{ consumer: { state: "ended", lagBytes: 0 } }, "Healthy", []],
  [{ consumer: { lag: 10_000 } }, "Healthy", []],
  [{ consumer: { lag: 10_001 } }, "Degraded", ["lag"]],
  [{ consumer: { silenceMs: 59_999 } }, "Healthy", []],
  [{ consumer: { silenceMs: 60_000 } }, "Unhealthy", ["silent"]],
  [{ consumer: { silenceMs: 60_000, state: "ended" } }, "Healthy", []],
  [{ consumer: { state: "failed", lag: 20_000 } }, "Unhealthy", ["failed"]],
  [{ utilisation: 1, consumer: { silenceMs: 70_000 } }, "Unhealthy", ["silent", "utilisation"]],
] as const satisfies [Seen, string, string[]][];

test("a bus is as well as the worst that is to be said of it, by the default thresholds", (t) => {
  const directory = makeDirectory(t);
  for (const [what, status, causes] of cases) {
    const health = judgeHealth(seen(directory, what));
    assert.equal(health.status, status, JSON.stringify(what));
    assert.deepEqual(
      health.reasons.map(({ cause }) => cause),
      causes,
    );
  }
});

test("each reason names its place, what was found and what is expected", (t) => {
  const directory = makeDirectory(t);
  const texts = (what: Seen): string[] =>
    judgeHealth(seen(directory, what)).reasons.map(({ text }) => text);
  assert.deepEqual(texts({ utilisation: 0.934 }), ["channel trades is 93.4 % full, above 90 %"]);
  assert.deepEqual(texts({ utilisation: 0.793, highWater: 0.8 }), [
    "channel trades is 79.3 % full, above 72 %: 90 % of its high-water mark, 80 %",
  ]);
  assert.deepEqual(texts({ consumer: { state: "dead", pid: 7, lagBytes: 112 } }), [
    "consumer ledger of channel trades is dead (process 7) and has 112 bytes to read",
  ]);
  assert.deepEqual(texts({ consumer: { lag: 12_000 } }), [
    "consumer ledger of channel trades is 12000 messages behind, above 10000",
  ]);
  assert.deepEqual(texts({ consumer: { silenceMs: 61_000, state: "absent" } }), [
    "consumer ledger of channel trades has never come, for 61 s",
  ]);
  assert.deepEqual(texts({ consumer: { silenceMs: 61_000, state: "dead", pid: 7 } }), [
    "consumer ledger of channel trades is dead (process 7), for 61 s",
  ]);
});

test("thresholds are those of [health], and what it leaves out has its default", (t) => {
  const directory = makeDirectory(t);
  const file = path.join(directory, "bus.toml");
  fs.writeFileSync(file, "[health]\nlag = 5\nsilent_ms = 100\n");
  const { health } = loadBusFile(file);
  assert.deepEqual(health, { utilisation: 0.9, lag: 5, silentMs: 100 });
  const what = { consumer: { lag: 6, silenceMs: 100 } };
  assert.equal(judgeHealth(seen(directory, what), health).status, "Unhealthy");
  assert.equal(judgeHealth(seen(directory, what)).status, "Healthy");
});

test("a threshold that makes no sense names its key", (t) => {
  const file = path.join(makeDirectory(t), "bus.toml");
  for (const [line, key] of [
    ["utilisation = 90", "health.utilisation"],
    ["lag = 0", "health.lag"],
    ["silence = 3", "health"],
  ] as const) {
    fs.writeFileSync(file, `[health]\n${line}\n`);
    assert.throws(
      () => loadBusFile(file),
      (error) => isGaplessError(error, "CONFIG_INVALID") && error.message.includes(`${key}: `),
    );
  }
});

const held = [
  { mode: "Reject" },
  { mode: "DropNewest" },
  { mode: "DropNewest", high_water: 0.5, low_water: 0.4 },
  { mode: "BlockProducer", timeout_ms: 1 },
  { mode: "CircuitBreaker", failure_threshold: 5 },
] as const satisfies Changes["backpressure"][];

for (const backpressure of held) {
  const mark = "high_water" in backpressure ? ` at ${backpressure.high_water}` : "";
  test(`a consumer that takes nothing is seen before it is silent: ${backpressure.mode}${mark}`, (t) => {
    const directory = makeDirectory(t);
    const changes: Changes = { backpressure };
    using engine = openTrades(directory, "engine", changes);
    using ledger = openTrades(directory, "ledger", changes);
    ledger.subscriber("trades");
    const publisher = engine.publisher("trades");
    let refused = 0;
    while (refused < 20) if (publisher.offer(new Uint8Array(40)) < 0) refused++;
    const { status, reasons } = engine.health();
    assert.equal(status, "Degraded");
    assert.deepEqual(
      reasons.map(({ cause }) => cause),
      ["utilisation"],
    );
    // A mark that is not the default is not in the file.
    if (mark !== "") return;
    using inspector = openInspector(directory);
    assert.deepEqual(judgeHealth(inspector.inspect()).reasons, reasons);
  });
}
