/** What `gapless bus tail` prints of real channels. */
import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import test from "node:test";
import { memoryOf, TlvBuilder } from "gapless/tlv";
import { decodeMessage, formatDecoded } from "../../../src/cli/message-text.ts";
import { makeDirectory, until } from "../../support/bus-channel.ts";
import { gapless, startGapless } from "../../support/bus-command.ts";
import { openTrades, type Changes } from "../../support/bus-seen.ts";

test("a line a message, as text where it is text, and nobody is disturbed", (t) => {
  const directory = makeDirectory(t);
  const changes: Changes = { timestamps: "all" };
  using engine = openTrades(directory, "engine", changes);
  using ledger = openTrades(directory, "ledger", changes);
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  publisher.offer(Buffer.from('{"price":\n1}'), publisher.topic("btc"));
  publisher.offer(Buffer.from("00ff00ff", "hex"));
  const before = fs.readFileSync(path.join(directory, "trades.ring"));
  const args = ["bus", "tail", "trades", "--directory", directory, "--from-start", "--count", "2"];
  const { status, stdout, stderr } = gapless(...args);
  assert.equal(status, 0, stderr);
  const lines = stdout.trimEnd().split("\n");
  assert.match(lines[0] ?? "", /^ {9}1 {2}engine +btc +\d+ (ms|s) {2}\{"price":\\n1\}$/);
  assert.match(lines[1] ?? "", /^ {9}2 {2}engine +\d+ (ms|s) {2}00ff00ff$/);
  assert.ok(fs.readFileSync(path.join(directory, "trades.ring")).equals(before));

  const json = gapless(...args, "--json")
    .stdout.trimEnd()
    .split("\n");
  const [first, second] = json.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual([first?.["sequence"], first?.["topic"]], [1, "btc"]);
  assert.equal(first?.["text"], '{"price":\n1}');
  assert.deepEqual([second?.["bytes"], second?.["hex"]], [4, "00ff00ff"]);
  assert.equal(subscriber.lag, 2);
});

test("it follows what comes, of all priorities, and says what it did not see", async (t) => {
  const directory = makeDirectory(t);
  const changes: Changes = { priorities: 2, backpressure: { mode: "DropOldest" } };
  using engine = openTrades(directory, "engine", changes);
  const [low, high] = [0, 1].map((priority) => engine.publisher("trades", { priority }));
  assert.ok(low && high);
  low.offer(Buffer.from("never shown"));
  const child = startGapless("bus", "tail", "trades", "--directory", directory);
  t.after(() => child.kill("SIGKILL"));
  assert.ok(child.stdout);
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  await until("it has begun", () => high.offer(Buffer.from("hello")) > 0 && lines.length > 0);
  assert.match(lines[0] ?? "", /^1 {11}\d*\d {2}engine .* hello$|^1 .* hello$/);
  child.kill("SIGSTOP");
  for (let count = 0; count < 1000; count++) low.offer(Buffer.from("one of many"));
  child.kill("SIGCONT");
  const find = (what: RegExp): boolean => lines.some((line) => what.test(line));
  await until("it shows the rest", () => find(/^0 .* 1,001 {2}engine .* one of many$/));
  low.offer(Buffer.from("gap"));
  await until("it shows what follows", () => find(/^0 .* gap$/));
  assert.ok(!find(/never shown/));
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("it ends where the channel is removed", async (t) => {
  const directory = makeDirectory(t);
  openTrades(directory, "engine").publisher("trades").close();
  const child = startGapless("bus", "tail", "trades", "--directory", directory);
  t.after(() => child.kill("SIGKILL"));
  const maps = (): string => fs.readFileSync(`/proc/${child.pid ?? 0}/maps`, "utf8");
  await until("it has the channel open", () => maps().includes("trades.ring"));
  fs.rmSync(path.join(directory, "trades.ring"));
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("a channel that is not there, or a count that is none, is a wrong command line", (t) => {
  const directory = makeDirectory(t);
  const missing = gapless("bus", "tail", "orders", "--directory", directory);
  assert.equal(missing.status, 2);
  assert.match(missing.stderr, /there is no channel orders in \/dev\/shm\/gapless-test-/);
  assert.equal(gapless("bus", "tail", "orders", "--count", "0").status, 2);
});

test("what is TLV is shown by its fields, text as it is, the rest in hexadecimal, cut off", () => {
  const decode = (bytes: Uint8Array): string =>
    formatDecoded(decodeMessage(memoryOf(bytes), 0, bytes.length));
  const bytes = new Uint8Array(200);
  const builder = new TlvBuilder({ domain: "marketData", source: 7 });
  builder.begin(memoryOf(bytes), 0, bytes.length);
  builder.header.sequence = 12n;
  builder.addTrade().venue = 3;
  builder.add(200, Uint8Array.of(1, 255));
  const message = bytes.subarray(0, builder.finish());
  assert.match(decode(message), /^marketData\/7 #12 trade\(.*venue=3.*\) 200\(01ff\)$/);
  message[message.length - 1] = 0;
  message[0] = 0;
  assert.match(decode(message), /^00[\da-f]{94}… \d+ bytes$/);
  assert.equal(decode(Buffer.from("text")), "text");
  assert.equal(decode(Buffer.alloc(49)), `${"00".repeat(48)}… 49 bytes`);
  assert.equal(decode(Buffer.from("c3", "hex")), "c3");
});
