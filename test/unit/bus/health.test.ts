/** How a bus is judged by what was seen of it. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { judgeHealth, loadBusFile, type BusSnapshot, type ConsumerSnapshot } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { makeDirectory } from "../../support/bus-channel.ts";
import { openTrades } from "../../support/bus-seen.ts";

interface Seen {
  readonly utilisation?: number;
  readonly consumer?: Partial<ConsumerSnapshot>;
}

/** A bus that is well, but for what a test changes of it. */
function seen(directory: string, { utilisation = 0, consumer = {} }: Seen): BusSnapshot {
  using bus = openTrades(directory, "ledger");
  bus.subscriber("trades");
  const snapshot = bus.inspect();
  return {
    ...snapshot,
    channels: snapshot.channels.map((channel) => ({
      ...channel,
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
