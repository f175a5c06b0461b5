/** Channels as a file has them, and as code has them. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { loadBusFile, openBus, type ChannelTable } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { makeDirectory } from "../../support/bus-channel.ts";

/** Three channels of a trading system, as its operator writes them. */
const trading = `
[channels.market_data]
type = "SPMC"
producer = "polygon_collector"
consumers = ["arbitrage_strategy", "analytics", "dashboard"]
buffer_size = "1GB"
message_size_max = "8KB"
huge_pages = true
numa_node = 0
prefault = true
backpressure.mode = "DropOldest"

[channels.signals]
type = "MPSC"
producers = ["arbitrage_strategy", "ml_strategy", "momentum_strategy"]
consumer = "execution_coordinator"
buffer_size = "256MB"
message_size_max = "4KB"
backpressure.mode = "AdaptiveThrottle"
backpressure.min_delay_us = 10
backpressure.max_delay_us = 1000

[channels.critical_signals]
type = "SPSC"
producer = "flash_arbitrage"
consumer = "execution_engine"
buffer_size = "64MB"
message_size_max = "4KB"
backpressure.mode = "CircuitBreaker"
backpressure.failure_threshold = 5
backpressure.recovery_timeout_ms = 5000
backpressure.failure_window_ms = 1000
`;

function write(directory: string, text: string): string {
  const file = path.join(directory, "bus.toml");
  fs.writeFileSync(file, text);
  return file;
}

test("the channels of a trading system are read from a file", (t) => {
  const { directory, channels } = loadBusFile(write(makeDirectory(t), trading));
  assert.equal(directory, "/dev/shm/gapless");
  const found = [...channels.values()].map(
    ({ name, type, producers, consumers, ringBytes, messageBytesMax }) => {
      return [name, type, producers.length, consumers.length, ringBytes, messageBytesMax];
    },
  );
  assert.deepEqual(found, [
    ["market_data", "SPMC", 1, 3, 2 ** 30, 8192],
    ["signals", "MPSC", 3, 1, 2 ** 28, 4096],
    ["critical_signals", "SPSC", 1, 1, 2 ** 26, 4096],
  ]);
  const [marketData, signals, critical] = [...channels.values()];
  assert.ok(marketData?.hugePages && marketData.prefault && marketData.numaNode === 0);
  const marks = { highWater: 0.8, lowWater: 0.6 };
  assert.deepEqual(marketData.backpressure, { ...marks, mode: "DropOldest" });
  assert.deepEqual(signals?.backpressure, {
    ...marks,
    mode: "AdaptiveThrottle",
    minDelayUs: 10,
    maxDelayUs: 1000,
  });
  assert.deepEqual(critical?.backpressure, {
    ...marks,
    mode: "CircuitBreaker",
    failureThreshold: 5,
    failureWindowMs: 1000,
    recoveryTimeoutMs: 5000,
  });
});

const small = `
directory = "rings"
[channels.trades]
type = "SPSC"
producer = "engine"
consumer = "ledger"
buffer_size = "4KB"
message_size_max = "64B"
`;

test("a bus opens from the path of a file, whose folder is relative to it", (t) => {
  const directory = makeDirectory(t);
  const file = write(directory, small);
  using engine = openBus(file, { service: "engine" });
  using ledger = openBus(file, { service: "ledger" });
  assert.equal(engine.publisher("trades").offer(new Uint8Array(3)), 1);
  assert.equal(ledger.subscriber("trades").read()?.length, 3);
  assert.deepEqual(fs.readdirSync(path.join(directory, "rings")), ["trades.ring"]);
});

test("a bus opens with a table in code, which is checked as a file is", (t) => {
  const directory = makeDirectory(t);
  const trades: ChannelTable[string] = {
    type: "MPSC",
    producers: ["engine", "router"],
    consumer: "ledger",
    buffer_size: "4KB",
    message_size_max: 64,
    backpressure: { mode: "BlockProducer", timeout_ms: 1 },
  };
  using engine = openBus({ directory, channels: { trades } }, { service: "engine" });
  assert.equal(engine.publisher("trades").offer(new Uint8Array(3)), 1);
  const wrong: ChannelTable = { trades: { ...trades, buffer_size: 5 } };
  assert.throws(
    () => openBus({ directory, channels: wrong }, { service: "engine" }),
    (error) => isGaplessError(error, "CONFIG_INVALID") && /trades\.buffer_size/.test(error.message),
  );
});

test("a file that is not there, is no TOML or has mistakes is refused with its path", (t) => {
  const directory = makeDirectory(t);
  const wrong: [text: string, line: string][] = [
    ["[channels", ""],
    ["directory = 5", "directory: expected the path of a folder"],
    [small.replace('"64B"', '"1KB"'), "channels.trades.message_size_max: expected at most 496"],
    [small.replace("buffer_size", "bufer_size"), "channels.trades: unknown bufer_size"],
    [small.replace("directory", "dirctory"), "unknown dirctory, expected directory, channels"],
    [`${small}[heatlh]\nlag = 5`, "unknown heatlh, expected directory, channels, health"],
    [small.replace("channels.", "channel."), "unknown channel, expected directory, channels"],
  ];
  const refuse = (file: string, line: string): void => {
    assert.throws(
      () => loadBusFile(file),
      (error) => {
        assert.ok(isGaplessError(error, "CONFIG_INVALID"), String(error));
        assert.ok(error.message.startsWith(file) && error.message.includes(line), error.message);
        return true;
      },
    );
  };
  for (const [text, line] of wrong) refuse(write(directory, text), line);
  refuse(path.join(directory, "gone.toml"), "cannot be read");
});

test("a topology is read for its bus: its other tables are passed over", (t) => {
  const tables = `name = "exchange"
audit.module = "audit.ts"
[data]
directory = "data"
[options.seed]
type = "integer"
[services.engine]
module = "engine.ts"
`;
  const text = `${tables}${small.replace(/^directory.*$/m, "")}`;
  const { channels } = loadBusFile(write(makeDirectory(t), text));
  assert.deepEqual([...channels.keys()], ["trades"]);
});
