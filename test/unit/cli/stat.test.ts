/** What `gapless bus stat` shows of real channels. */
import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import test from "node:test";
import type { BusSnapshot, Health } from "gapless/bus";
import { formatBytes, formatDuration } from "../../../src/cli/table.ts";
import { identifySelf } from "../../../src/memory/process-identity.ts";
import { shmDirectoryOf } from "../../../src/supervise/run-directory.ts";
import { gapless, startGapless } from "../../support/bus-command.ts";
import { makeDirectory } from "../../support/bus-channel.ts";
import { onlyLane, openTrades, type Changes } from "../../support/bus-seen.ts";

type Document = BusSnapshot & { readonly directory: string; readonly health: Health };

const changes: Changes = {
  type: "SPMC",
  consumers: ["ledger", "a-consumer-whose-name-is-quite-long"],
  backpressure: { mode: "DropNewest" },
  timestamps: "all",
};

test("a line for each end, aligned, within 100 columns, after the verdict", (t) => {
  const directory = makeDirectory(t);
  using engine = openTrades(directory, "engine", changes);
  using ledger = openTrades(directory, "ledger", changes);
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  for (let count = 0; count < 1234; count++) publisher.offer(new Uint8Array(40));
  subscriber.poll(() => undefined, 3);
  subscriber.release();
  const config = path.join(directory, "bus.toml");
  fs.writeFileSync(config, 'directory = "."\n[health]\nlag = 1233\n');
  const { status, stdout, stderr } = gapless("bus", "stat", config);
  assert.equal(status, 0, stderr);
  const all = stdout.trimEnd().split("\n");
  assert.ok(all.every((line) => line.length <= 100));
  const lines = all.slice(all.indexOf("") + 1);
  const [title = "", producers = "", engineLine = "", engineMore = "", consumers = ""] = lines;
  assert.match(
    title,
    /^trades {2}SPMC {2}DropNewest {2}4 KB ring {2}\d+(\.\d)? % used {2}newest #1,234$/,
  );
  assert.equal(producers.indexOf("messages"), consumers.indexOf("messages"));
  assert.match(engineLine, new RegExp(`^  engine +active +${process.pid} `));
  assert.match(engineMore, /^ {4}dropped 1,\d\d\d, backpressure events \d/);
  const place = producers.indexOf("messages") + "messages".length;
  assert.match(engineLine.slice(0, place), / \d\d$/);
  assert.match(stdout, /^ {2}ledger +reading +\d+ .* 3 +- /m);
  assert.match(stdout, /^ {2}a-consumer-whose-n… +absent +- /m);
  assert.match(
    stdout,
    /^ {2}loss 1: dropped, engine, #\d+ to #1,234, 1,\d\d\d messages, \d+ m?s ago$/m,
  );
  const reason = "is 1234 messages behind, above";
  assert.deepEqual(all.slice(0, 3), [
    "Degraded",
    `  consumer a-consumer-whose-name-is-quite-long of channel trades ${reason}`,
    "    1233",
  ]);
});

test("what was rejected is shown as attempts, and as no loss", (t) => {
  const directory = makeDirectory(t);
  using engine = openTrades(directory, "engine");
  using ledger = openTrades(directory, "ledger");
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  const fill = (refusals: number): void => {
    for (let refused = 0; refused < refusals;) {
      if (publisher.offer(new Uint8Array(40)) < 0) refused++;
    }
    subscriber.poll(() => undefined, 1000);
    subscriber.release();
  };
  fill(1234);
  fill(1);
  const { stdout } = gapless("bus", "stat", "--directory", directory);
  assert.match(stdout, /^ {2}rejected 1,234 attempts before #\d+, engine, \d+ m?s ago$/m);
  assert.match(stdout, /^ {2}rejected 1 attempt before #\d+, engine, \d+ m?s ago$/m);
  assert.doesNotMatch(stdout, /loss/);
});

test("as JSON it is one document, and thresholds are those of the file", (t) => {
  const directory = makeDirectory(t);
  const config = path.join(directory, "bus.toml");
  const ends = 'type = "SPSC"\nproducer = "a"\nconsumer = "b"';
  const orders = `${ends}\nbuffer_size = 4096\nmessage_size_max = 8`;
  fs.writeFileSync(config, `directory = "."\n[health]\nlag = 1\n[channels.orders]\n${orders}\n`);
  using engine = openTrades(directory, "engine");
  const publisher = engine.publisher("trades");
  for (let count = 0; count < 2; count++) publisher.offer(new Uint8Array(40));
  const { status, stdout } = gapless("bus", "stat", config, "--json");
  assert.equal(status, 0);
  const document = JSON.parse(stdout) as Document;
  assert.equal(document.directory, directory);
  assert.equal(onlyLane(document).producers[0]?.messages, 2);
  assert.equal(document.health.status, "Degraded");
  assert.match(gapless("bus", "stat", config).stdout, /^orders {2}not opened yet$/m);
});

test("watched, it is a document or a block a second, with rates, until it is stopped", async (t) => {
  const directory = makeDirectory(t);
  using engine = openTrades(directory, "engine");
  using ledger = openTrades(directory, "ledger");
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  const timer = setInterval(() => {
    publisher.offer(new Uint8Array(40));
    subscriber.read();
  }, 5);
  t.after(() => clearInterval(timer));
  const asJson = startGapless("bus", "stat", "--directory", directory, "--watch", "--json");
  const asText = startGapless("bus", "stat", "--directory", directory, "--watch");
  t.after(() => [asJson, asText].map((child) => child.kill("SIGKILL")));
  assert.ok(asJson.stdout !== null && asText.stdout !== null);
  const counts: number[] = [];
  for await (const line of createInterface({ input: asJson.stdout })) {
    counts.push(onlyLane(JSON.parse(line) as Document).sequence);
    if (counts.length === 2) break;
  }
  assert.ok((counts[1] ?? 0) > (counts[0] ?? 0));
  for await (const line of createInterface({ input: asText.stdout })) {
    if (/^ {2}engine .* \d+ +[1-9]\d+ +\d/.test(line)) break;
  }
  for (const child of [asJson, asText]) {
    child.stdout?.resume();
    child.kill("SIGINT");
    assert.deepEqual(await once(child, "exit"), [0, null]);
  }
});

test("of a topology the channels of its run are found", (t) => {
  const data = makeDirectory(t);
  const shm = shmDirectoryOf(data);
  fs.mkdirSync(shm);
  t.after(() => fs.rmSync(shm, { recursive: true, force: true }));
  fs.writeFileSync(path.join(shm, "owner.json"), JSON.stringify(identifySelf()));
  using bus = openTrades(shm, "engine");
  bus.publisher("trades");
  const example = path.join(import.meta.dirname, "../../../examples/exchange/exchange.toml");
  const { stdout } = gapless("bus", "stat", example, "--data", data);
  assert.match(stdout, /^ {2}engine +active/m);
  assert.match(stdout, /^orders {2}not opened yet$/m);
});

test("nothing there is said so, and a file that is not there is a wrong command line", (t) => {
  const directory = makeDirectory(t);
  const nothing = gapless("bus", "stat", "--directory", directory);
  assert.deepEqual(
    [nothing.status, nothing.stdout],
    [0, `There are no channels in ${directory}.\n`],
  );
  assert.equal(gapless("bus", "stat", path.join(directory, "no.toml")).status, 2);
});

test("sizes and times take little room, whatever they are", () => {
  assert.deepEqual([0, 1023, 1024, 1536, 200 * 1024, 2 ** 33].map(formatBytes), [
    "0 B",
    "1023 B",
    "1 KB",
    "1.5 KB",
    "200 KB",
    "8 GB",
  ]);
  assert.deepEqual([0, 999, 1000, 119_999, 120_000, 7_200_000].map(formatDuration), [
    "0 ms",
    "999 ms",
    "1 s",
    "119 s",
    "2 min",
    "2 h",
  ]);
});
