/** The keys of a channel beyond its ends and its size. */
import path from "node:path";
import assert from "node:assert/strict";
import test from "node:test";
import { parseChannels, type Channel } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";

const spsc = {
  type: "SPSC",
  producer: "engine",
  consumer: "ledger",
  buffer_size: "4KB",
  message_size_max: 64,
} as const;
const mpsc = { ...spsc, type: "MPSC", producer: undefined, producers: ["engine", "router"] };

function parse(entry: object): Channel {
  const channel = parseChannels({ trades: entry }, "exchange.toml").get("trades");
  assert.ok(channel);
  return channel;
}

function mistakesOf(table: unknown): string[] {
  try {
    parseChannels(table, "exchange.toml");
  } catch (error) {
    assert.ok(isGaplessError(error, "CONFIG_INVALID"), String(error));
    return error.message.split("\n");
  }
  return assert.fail(`taken: ${JSON.stringify(table)}`);
}

const marks = { highWater: 0.8, lowWater: 0.6 };
const modes: [entry: object, resolved: object][] = [
  [{ mode: "Reject" }, { mode: "Reject", highWater: 1, lowWater: 1 }],
  [{ mode: "DropNewest" }, { mode: "DropNewest", ...marks }],
  [
    { mode: "DropOldest", high_water: 1, low_water: 0.5 },
    { mode: "DropOldest", highWater: 1, lowWater: 0.5 },
  ],
  [{ mode: "BlockProducer" }, { mode: "BlockProducer", ...marks, timeoutMs: 1000 }],
  [
    { mode: "BlockProducer", timeout_ms: 5 },
    { mode: "BlockProducer", ...marks, timeoutMs: 5 },
  ],
  [
    { mode: "AdaptiveThrottle" },
    { mode: "AdaptiveThrottle", ...marks, minDelayUs: 10, maxDelayUs: 1000 },
  ],
  [
    { mode: "AdaptiveThrottle", min_delay_us: 20, max_delay_us: 20 },
    { mode: "AdaptiveThrottle", ...marks, minDelayUs: 20, maxDelayUs: 20 },
  ],
  [
    { mode: "CircuitBreaker" },
    {
      mode: "CircuitBreaker",
      ...marks,
      failureThreshold: 5,
      failureWindowMs: 1000,
      recoveryTimeoutMs: 5000,
    },
  ],
  [
    { mode: "CircuitBreaker", failure_threshold: 1, failure_window_ms: 2, recovery_timeout_ms: 3 },
    {
      mode: "CircuitBreaker",
      ...marks,
      failureThreshold: 1,
      failureWindowMs: 2,
      recoveryTimeoutMs: 3,
    },
  ],
];

for (const [entry, resolved] of modes) {
  test(`backpressure ${JSON.stringify(entry)} is resolved with its defaults`, () => {
    assert.deepEqual(parse({ ...spsc, backpressure: entry }).backpressure, resolved);
  });
}

test("every other key reaches the channel", () => {
  const channel = parse({
    ...spsc,
    backup_producer: "standby",
    priorities: 3,
    timestamps: "all",
    huge_pages: true,
    numa_node: 1,
    prefault: true,
    strict: true,
    failed_consumer: "wait",
    consumer_timeout_ms: 1500,
    producer_timeout_ms: 250,
    recovery: {
      enable_persistence: true,
      persistence_path: "data/trades",
      enable_replay: true,
      replay_window_ms: 5000,
      auto_restart_consumers: true,
      restart_delay_ms: 0,
    },
  });
  assert.deepEqual(channel.producers, ["engine", "standby"]);
  assert.ok(channel.hasBackup && channel.hugePages && channel.prefault && channel.strict);
  assert.equal(channel.priorities, 3);
  assert.equal(channel.timestamps, "all");
  assert.equal(channel.numaNode, 1);
  assert.equal(channel.failedConsumer, "wait");
  assert.equal(channel.consumerTimeoutMs, 1500);
  assert.equal(channel.producerTimeoutMs, 250);
  assert.deepEqual(channel.recovery, {
    persistencePath: path.resolve("data/trades"),
    replayWindowMs: 5000,
    autoRestartConsumers: true,
    restartDelayMs: 0,
  });
});

test("a table of recovery by itself keeps nothing and restarts nobody", () => {
  assert.deepEqual(parse({ ...spsc, recovery: {} }).recovery, {
    persistencePath: undefined,
    replayWindowMs: undefined,
    autoRestartConsumers: false,
    restartDelayMs: 1000,
  });
});

const share = "expected a share of the ring, above 0 and at most 1";
const mistakes: [what: string, keys: object, line: string][] = [
  ["no mode", { backpressure: {} }, 'backpressure.mode: expected "Reject", '],
  ["a mode that there is not", { backpressure: { mode: "Drop" } }, "backpressure.mode: expected"],
  ["a mark of 0", { backpressure: { mode: "DropNewest", high_water: 0 } }, `high_water: ${share}`],
  ["a mark of 2", { backpressure: { mode: "DropNewest", low_water: 2 } }, `low_water: ${share}`],
  [
    "marks the wrong way round",
    { backpressure: { mode: "DropNewest", high_water: 0.5 } },
    "backpressure.low_water: expected at most high_water (0.5): 0.6",
  ],
  [
    "a mark where nothing begins before the ring is full",
    { backpressure: { mode: "Reject", low_water: 0.5 } },
    "backpressure.high_water: expected no water marks",
  ],
  [
    "a setting of another mode",
    { backpressure: { mode: "BlockProducer", min_delay_us: 5 } },
    'backpressure.min_delay_us: expected timeout_ms with mode = "BlockProducer"',
  ],
  [
    "a setting of a mode that has none",
    { backpressure: { mode: "DropOldest", timeout_ms: 5 } },
    'backpressure.timeout_ms: expected no such setting with mode = "DropOldest"',
  ],
  [
    "delays the wrong way round",
    { backpressure: { mode: "AdaptiveThrottle", min_delay_us: 2000 } },
    "backpressure.min_delay_us: expected at most max_delay_us (1000)",
  ],
  [
    "a delay that is no whole number",
    { backpressure: { mode: "AdaptiveThrottle", min_delay_us: 1.5 } },
    "backpressure.min_delay_us: expected microseconds, a whole number from 1",
  ],
  [
    "a threshold of 0",
    { backpressure: { mode: "CircuitBreaker", failure_threshold: 0 } },
    "backpressure.failure_threshold: expected failures, a whole number from 1",
  ],
  [
    "no levels of priority",
    { priorities: 0 },
    "priorities: expected levels, a whole number from 1",
  ],
  ["nine levels", { priorities: 9 }, "priorities: expected levels, a whole number from 1 to 8"],
  ["timestamps of another kind", { timestamps: true }, 'timestamps: expected "all", "sampled" or'],
  ["a flag that is none", { prefault: "yes" }, "prefault: expected true or false"],
  ["a node below 0", { numa_node: -1 }, "numa_node: expected a node, a whole number from 0"],
  [
    "a high-water mark below three messages",
    {
      message_size_max: 496,
      backpressure: { mode: "DropNewest", high_water: 0.3, low_water: 0.1 },
    },
    "backpressure.high_water: expected at least 0.475: room for three large messages",
  ],
  ["a timeout of 0", { consumer_timeout_ms: 0 }, "consumer_timeout_ms: expected milliseconds"],
  [
    "a timeout in text",
    { producer_timeout_ms: "1s" },
    "producer_timeout_ms: expected milliseconds",
  ],
  ["a backup that is the producer", { backup_producer: "engine" }, "producers: expected each name"],
  ["a backup that consumes", { backup_producer: "ledger" }, "producer: expected another service"],
  [
    "persistence without a path",
    { recovery: { enable_persistence: true } },
    "recovery.persistence_path: expected the path of a folder for enable_persistence",
  ],
  [
    "a replay of what is not kept",
    { recovery: { enable_replay: true } },
    "recovery.enable_replay: expected enable_persistence = true",
  ],
  ["a key of recovery that there is not", { recovery: { path: "x" } }, "recovery: unknown path"],
];

for (const [what, keys, line] of mistakes) {
  test(`${what} is refused with source, key and expectation`, () => {
    const [first = "", ...more] = mistakesOf({ trades: { ...spsc, ...keys } });
    assert.deepEqual(more, []);
    assert.ok(first.startsWith("exchange.toml: trades."), first);
    assert.ok(first.includes(line), first);
  });
}

test("several producers are refused where the type has one, or has a backup", () => {
  assert.deepEqual(parse(mpsc).producers, ["engine", "router"]);
  const tooMany = mistakesOf({ trades: { ...mpsc, type: "SPSC" } });
  assert.match(tooMany.join("\n"), /trades\.producers: expected one for SPSC, found 2: use MPSC/);
  const backup = mistakesOf({ trades: { ...mpsc, backup_producer: "standby" } });
  assert.match(backup.join("\n"), /backup_producer: expected SPSC or SPMC/);
  const none = mistakesOf({ trades: { ...spsc, producer: undefined } });
  assert.deepEqual(none, ["exchange.toml: trades.producers: expected at least one"]);
  const both = mistakesOf({ trades: { ...spsc, producers: ["router"] } });
  assert.match(both.join("\n"), /producer: expected either producer or producers, not both/);
});

test("a producer that two channels name is refused", () => {
  assert.deepEqual(mistakesOf({ orders: spsc, trades: { ...mpsc } }), [
    "exchange.toml: trades.producer: " +
      "expected a producer of its own: engine produces orders already",
  ]);
});
