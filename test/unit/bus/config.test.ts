import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import fc from "fast-check";
import { openBus, parseChannels } from "gapless/bus";
import { consumersMax, messageBytesLimit } from "../../../src/bus/layout.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { makeDirectory } from "../../support/bus-channel.ts";

const spsc = {
  type: "SPSC",
  producer: "engine",
  consumer: "ledger",
  buffer_size: "4KB",
  message_size_max: 64,
};
const { consumer: _, ...noConsumer } = spsc;
const spmc = { ...noConsumer, type: "SPMC", consumers: ["ledger", "candles"] };

/** The lines of the error that the table gets. */
function mistakesOf(table: unknown): string[] {
  try {
    parseChannels(table, "exchange.toml");
  } catch (error) {
    assert.ok(isGaplessError(error, "CONFIG_INVALID"), String(error));
    assert.equal(error.advice, "stop");
    return error.message.split("\n");
  }
  return assert.fail(`taken: ${JSON.stringify(table)}`);
}

test("a channel is resolved once: sizes in bytes, defaults filled in, and frozen", () => {
  const channels = parseChannels(
    {
      orders: spsc,
      trades: { ...spmc, producer: "router", failed_consumer: "wait", buffer_size: "64MB" },
    },
    "exchange.toml",
  );
  const defaults = {
    hasBackup: false,
    messageBytesMax: 64,
    priorities: 1,
    backpressure: { highWater: 1, lowWater: 1, mode: "Reject" },
    consumerTimeoutMs: 60_000,
    producerTimeoutMs: 1000,
    timestamps: "sampled",
    hugePages: false,
    numaNode: undefined,
    prefault: false,
    strict: false,
    recovery: undefined,
  };
  assert.deepEqual(channels.get("orders"), {
    ...defaults,
    name: "orders",
    type: "SPSC",
    producers: ["engine"],
    consumers: ["ledger"],
    ringBytes: 4096,
    failedConsumer: "evict",
  });
  assert.deepEqual(channels.get("trades"), {
    ...defaults,
    name: "trades",
    type: "SPMC",
    producers: ["router"],
    consumers: ["ledger", "candles"],
    ringBytes: 64 * 2 ** 20,
    failedConsumer: "wait",
  });
  for (const channel of channels.values()) {
    for (const it of [channel, channel.consumers, channel.producers, channel.backpressure]) {
      assert.ok(Object.isFrozen(it));
    }
  }
});

const size = 'expected a size such as "64MB", "8KB" or bytes';
const name = "expected letters, digits, - and _, at most 48";
const power = "expected a power of two from 4KB to 8GB";
const many = Array.from({ length: consumersMax + 1 }, (_unused, index) => `c${index}`);
const mistakes: [what: string, entry: unknown, line: string][] = [
  ["an entry that is no table", 5, "trades: expected a table"],
  [
    "a type that there is not",
    { ...spsc, type: "SPXC" },
    'trades.type: expected "SPSC", "SPMC", "MPSC" or "MPMC"',
  ],
  ["a producer that is no name", { ...spsc, producer: 5 }, "trades.producer: expected a name"],
  ["a name with a blank", { ...spsc, consumer: "a b" }, `trades.consumer: ${name}`],
  ["a name that leads out of the directory", { ...spsc, producer: "../x" }, "trades.producer: "],
  ["a size with an unknown unit", { ...spsc, buffer_size: "4kb" }, `buffer_size: ${size}, found`],
  ["a size that is no whole number", { ...spsc, buffer_size: 4096.5 }, `${size}, found 4096.5`],
  ["a size of nothing", { ...spsc, message_size_max: "0B" }, `message_size_max: ${size}, found`],
  ["a size that is no size", { ...spsc, buffer_size: true }, `trades.buffer_size: ${size}`],
  ["no size", { ...spsc, buffer_size: undefined }, `trades.buffer_size: ${size}`],
  ["5000 bytes", { ...spsc, buffer_size: 5000 }, `trades.buffer_size: ${power}, found 5000 bytes`],
  ["2 KB", { ...spsc, buffer_size: "2KB" }, `trades.buffer_size: ${power}, found 2048 bytes`],
  ["16 GB", { ...spsc, buffer_size: "16GB" }, `trades.buffer_size: ${power}`],
  [
    "a message above an eighth of the ring",
    { ...spsc, message_size_max: 497 },
    "trades.message_size_max: expected at most 496 bytes",
  ],
  ["no consumer", noConsumer, "trades.consumers: expected at least one"],
  [
    "an empty list of consumers",
    { ...spmc, consumers: [] },
    `trades.consumers: expected a list of 1 to ${consumersMax} names`,
  ],
  ["consumers that are no list", { ...spmc, consumers: "ledger" }, "consumers: expected a list of"],
  ["too many consumers", { ...spmc, consumers: many }, "trades.consumers: expected a list of"],
  [
    "consumer and consumers",
    { ...spmc, consumer: "ledger" },
    "trades.consumer: expected either consumer or consumers, not both",
  ],
  [
    "SPSC with two consumers",
    { ...spmc, type: "SPSC" },
    "trades.consumers: expected one for SPSC, found 2: use SPMC",
  ],
  [
    "a consumer named twice",
    { ...spmc, consumers: ["ledger", "ledger"] },
    "trades.consumers: expected each name once",
  ],
  [
    "a producer that consumes what it produces",
    { ...spmc, consumers: ["ledger", "engine"] },
    "trades.producer: expected another service than the consumers: engine",
  ],
  [
    "a policy that there is not",
    { ...spsc, failed_consumer: "ignore" },
    'trades.failed_consumer: expected "evict" or "wait"',
  ],
  ["a key that there is not", { ...spsc, bufer_size: 1 }, "trades: unknown bufer_size, expected"],
];

for (const [what, entry, line] of mistakes) {
  test(`${what} is refused with source, key and expectation`, () => {
    const [first = "", ...more] = mistakesOf({ trades: entry });
    assert.deepEqual(more, []);
    assert.ok(first.startsWith("exchange.toml: trades"), first);
    assert.ok(first.includes(line), first);
  });
}

test("a table that is none, and a channel whose name is no file name, are refused", () => {
  for (const table of [null, 5, "channels", [spsc]]) {
    assert.deepEqual(mistakesOf(table), ["exchange.toml: expected a table of channels"]);
  }
  assert.deepEqual(mistakesOf({ "../trades": spsc }), [`exchange.toml: ../trades: ${name}`]);
});

test("every mistake of every channel is told at once", () => {
  const lines = mistakesOf({
    orders: { ...spsc, producer: "ledger", buffer_size: 5000 },
    trades: { ...spmc, type: "SPSC", producer: "engine" },
  });
  assert.deepEqual(
    lines.map((line) => line.split(": ").slice(0, 2).join(": ")),
    [
      "exchange.toml: orders.producer",
      "exchange.toml: orders.buffer_size",
      "exchange.toml: trades.consumers",
    ],
  );
});

test("any table at all is taken or refused, and nothing else happens", () => {
  const value = fc.oneof(
    fc.anything({ maxDepth: 1 }),
    fc.constantFrom("4KB", "1MB", 64, "engine", "ledger", ["ledger"], "SPMC", "SPSC", "evict"),
  );
  const entry = fc.record(
    Object.fromEntries(
      [...Object.keys(spmc), "consumer", "failed_consumer"].map((it) => [it, value]),
    ),
    { requiredKeys: [] },
  );
  const table = fc.dictionary(fc.constantFrom("a", "b", "-"), fc.oneof(entry, fc.anything()));
  fc.assert(
    fc.property(table, (it) => {
      try {
        for (const channel of parseChannels(it, "any").values()) {
          assert.ok(channel.messageBytesMax <= messageBytesLimit(channel.ringBytes));
          assert.ok(channel.consumers.length > 0);
        }
      } catch (error) {
        assert.ok(isGaplessError(error, "CONFIG_INVALID"), String(error));
      }
    }),
  );
});

test("a bus refuses a channel that there is not, and an end that is another service's", (t) => {
  const directory = makeDirectory(t);
  const channels = parseChannels({ trades: spmc }, "exchange.toml");
  using bus = openBus({ directory, channels }, { service: "ledger" });
  for (const open of [() => bus.publisher("trades"), () => bus.subscriber("orders")]) {
    assert.throws(open, (error) => {
      assert.ok(isGaplessError(error, "CONFIG_INVALID"));
      assert.match(error.message, /trades \(engine → ledger, candles\)/);
      return true;
    });
  }
  assert.deepEqual(fs.readdirSync(directory), []);
});
