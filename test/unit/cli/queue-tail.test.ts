/** What `gapless queue tail` prints of real queues. */
import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import test from "node:test";
import { openPublisher } from "gapless/queue";
import { memoryOf, TlvBuilder } from "gapless/tlv";
import { parseTime } from "../../../src/cli/moment.ts";
import { segmentFileName, segmentOffset } from "../../../src/queue/layout.ts";
import { gapless, startGapless } from "../../support/bus-command.ts";
import { until } from "../../support/queue-children.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";

const options = { segmentBytes: 16 * 1024, preallocate: false };
const secondNs = 1_000_000_000n;
/** 2023-11-14T22:13:20Z */
const startNs = 1_700_000_000n * secondNs;

function linesOf(...args: string[]): string[] {
  const { status, stdout, stderr } = gapless("queue", "tail", ...args);
  assert.equal(status, 0, stderr);
  return stdout.split("\n").slice(0, -1);
}

test("a line a message, the newest by default, and no trace of who looked", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await using publisher = openPublisher(directory, options);
  for (let sequence = 1; sequence <= 1000; sequence++) {
    const time = startNs + BigInt(sequence) * secondNs;
    publisher.append(sequence % 3, Buffer.from(`trade ${sequence}`), time);
  }
  const before = fs.readdirSync(directory, { recursive: true }).sort();
  const newest = linesOf(directory);
  assert.equal(newest.length, 10);
  assert.equal(
    newest.at(-1),
    "       1,000  2023-11-14T22:30:00.000000Z      1      10 B  trade 1000",
  );
  assert.deepEqual(
    linesOf(directory, "--from", "499", "--limit", "3", "--type", "0", "--json").map(
      (line) => JSON.parse(line) as unknown,
    ),
    [501, 504, 507].map((sequence) => ({
      sequence,
      timestampNs: String(startNs + BigInt(sequence) * secondNs),
      type: 0,
      epoch: 1,
      bytes: 9,
      text: `trade ${sequence}`,
    })),
  );
  const [since = ""] = linesOf(directory, "--since", "2023-11-14T22:20:00.5Z", "--limit", "1");
  assert.match(since, / trade 401$/);
  assert.deepEqual(fs.readdirSync(directory, { recursive: true }).sort(), before);

  const late = gapless("queue", "tail", directory, "--from", "1002");
  assert.deepEqual([late.status, late.stdout], [1, ""]);
  assert.match(late.stderr, /^DATA_NOT_YET_AVAILABLE: sequence=1002 .* the next one is 1001/);
  for (const wrong of [
    ["--from", "0"],
    ["--limit", "x"],
    ["--since", "yesterday"],
    ["--type", "-1"],
  ]) {
    assert.equal(gapless("queue", "tail", directory, ...wrong).status, 2, wrong.join(" "));
  }
});

test("it follows what comes, over the ends of segments, until it is stopped", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await using publisher = openPublisher(directory, options);
  publisher.append(1, Buffer.from("never shown"));
  const child = startGapless("queue", "tail", "-f", directory);
  t.after(() => child.kill("SIGKILL"));
  assert.ok(child.stdout);
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  await until("it has begun", () => {
    publisher.append(1, Buffer.from("hello"));
    return lines.length > 0;
  });
  const bytes = new Uint8Array(200);
  const builder = new TlvBuilder({ domain: "marketData", source: 7 });
  builder.begin(memoryOf(bytes), 0, bytes.length);
  builder.addTrade().venue = 3;
  publisher.append(2, bytes.subarray(0, builder.finish()));
  for (let count = 0; count < 1000; count++) publisher.append(1, Buffer.from(`${count}`));
  publisher.append(3, Uint8Array.of(0, 255));
  await until("it shows the last", () => lines.some((line) => line.endsWith("  00ff")));
  assert.ok(lines.some((line) => /marketData\/7 #0 trade\(.*venue=3/.test(line)));
  const sequences = lines.map((line) => Number(line.trim().split(" ")[0]?.replaceAll(",", "")));
  assert.deepEqual(
    sequences,
    sequences.map((_one, index) => (sequences[0] ?? 0) + index),
  );
  child.kill("SIGINT");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("what cannot be read is named, and what is behind it is printed", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const publisher = openPublisher(directory, options);
  for (let sequence = 1; sequence <= 20; sequence++) publisher.append(1, Buffer.alloc(8, 65));
  await publisher.close();
  const file = path.join(directory, segmentFileName(1));
  const content = fs.readFileSync(file);
  const start = content.readUInt32LE(segmentOffset.recordsStart);
  content.fill(66, start + 9 * 40 + 32, start + 9 * 40 + 40);
  fs.writeFileSync(file, content);
  const { status, stdout } = gapless("queue", "tail", directory, "--from", "1");
  assert.equal(status, 1);
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.length, 20);
  assert.match(lines[9] ?? "", /^ +- {2}not to be read: #10\. .* is damaged: offset=/);
  const copy = gapless("queue", "tail", directory, "--from", "10", "--limit", "1", "--json");
  const [unread, next] = copy.stdout.trimEnd().split("\n");
  const { unread: range } = JSON.parse(unread ?? "") as { unread: unknown };
  assert.deepEqual(range, { cause: "damaged", from: 10, to: 10 });
  assert.match(next ?? "", /"sequence":11,/);
});

test("a moment is a date, or so long ago", () => {
  const nowMs = Date.parse("2026-01-02T00:00:00Z");
  const parse = (text: string): bigint => parseTime("--since", text, nowMs);
  assert.equal(parse("2026-01-01T00:00:00Z"), BigInt(nowMs - 86_400_000) * 1_000_000n);
  assert.equal(parse("90s"), BigInt(nowMs - 90_000) * 1_000_000n);
  assert.equal(parse("1d"), parse("24h"));
  for (const wrong of ["", "15", "m", "2026", "2026-13-01T00:00:00Z", "1w"]) {
    assert.throws(() => parse(wrong), /--since: expected a time such as/, wrong);
  }
});
