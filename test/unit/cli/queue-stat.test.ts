/** What `gapless queue stat`, `inspect` and `readers` show of real queues. */
import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import test from "node:test";
import { openPublisher, openSubscriber, type QueueSnapshot } from "gapless/queue";
import { formatTime } from "../../../src/cli/queue-table.ts";
import { gapless, startGapless } from "../../support/bus-command.ts";
import { startChild } from "../../support/queue-children.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const segmentBytes = 16 * 1024;

test("a queue, its segments and its readers are shown within 100 columns", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  const long = "a-strategy-with-a-name-that-is-quite-long";
  await openSubscriber(directory, long).close();
  for (let sequence = 1; sequence <= 1234; sequence++) publisher.append(1, payloadOf(sequence));
  await publisher.flush();
  publisher.append(1, payloadOf(1235));
  await using subscriber = openSubscriber(directory, "ledger");
  subscriber.poll(() => undefined, 1000);
  subscriber.commitThrough(990);
  const { status, stdout, stderr } = gapless("queue", "inspect", directory);
  assert.equal(status, 0, stderr);
  const lines = stdout.trimEnd().split("\n");
  assert.ok(lines.every((line) => line.length <= 100));
  assert.match(lines[0] ?? "", new RegExp(`^${directory}  [\\da-f]{16}$`));
  assert.match(stdout, new RegExp(`^  writer   open, pid ${process.pid}, epoch 1, silent`, "m"));
  assert.match(stdout, /^ {2}kept {5}#1 to #1,235$/m);
  assert.match(stdout, /^ {2}durable {2}through #1,234, 1 are not$/m);
  assert.match(stdout, /^ {2}files {4}\d segments, \d+ KB$/m);
  assert.match(stdout, /^ {2}ledger +reading +\d+ +\d+ m?s +#990 +- +245$/m);
  assert.match(stdout, /^ {4}10 taken and not committed$/m);
  assert.match(stdout, /^ {2}a-strategy-with-a-name-… away +- .* +- +1,235$/m);
  assert.match(stdout, /^ +1 ended +#1 +\d+ +\S+ KB +16 KB +all +fast +1 +20\d\d-/m);
  assert.match(stdout, /^ +\d open +#/m);
  const snapshot = JSON.parse(gapless("queue", "inspect", directory, "--json").stdout) as {
    segments: { latestNs: string }[];
    readers: { committed: number }[];
  };
  assert.match(snapshot.segments[0]?.latestNs ?? "", /^\d{19}$/);
  assert.equal(snapshot.readers[1]?.committed, 990);
});

test("watched, it is a block or a document a second, with rates, until it is stopped", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const child = startChild(t, "live", { directory, options: { segmentBytes }, reader: "ledger" });
  await child.next();
  const asText = startGapless("queue", "stat", directory, "--watch");
  const asJson = startGapless("queue", "stat", directory, "--watch", "--json");
  t.after(() => [asText, asJson].map((one) => one.kill("SIGKILL")));
  assert.ok(asText.stdout && asJson.stdout);
  const seen: number[] = [];
  for await (const line of createInterface({ input: asJson.stdout })) {
    seen.push((JSON.parse(line) as QueueSnapshot).lastSequence);
    if (seen.length === 2) break;
  }
  assert.ok((seen[1] ?? 0) > (seen[0] ?? 0));
  let hasRate = false;
  for await (const line of createInterface({ input: asText.stdout })) {
    hasRate ||= /^ {2}kept .*, [1-9][\d,]* msg\/s, [1-9]\S* [KM]B\/s$/.test(line);
    if (hasRate && /^ {2}ledger +reading .* [1-9][\d,]* +[\d,]+$/.test(line)) break;
  }
  for (const one of [asText, asJson]) {
    one.stdout?.resume();
    one.kill("SIGINT");
    assert.deepEqual(await once(one, "exit"), [0, null]);
  }
});

test("a reader that is gone can be removed, one that reads cannot", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  publisher.append(1, payloadOf(1));
  const subscriber = openSubscriber(directory, "ledger");
  subscriber.poll(() => undefined, 1);
  subscriber.commit();
  const remove = ["queue", "readers", directory, "--remove", "ledger"];
  const refused = gapless(...remove);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, new RegExp(`^ALREADY_OPEN: .*pid=${process.pid}`));
  await subscriber.close();
  const shown = gapless("queue", "readers", directory).stdout;
  assert.match(shown, /^ {2}ledger +away +- .* #1 +- +0$/m);
  assert.deepEqual(
    [gapless(...remove).status, fs.readdirSync(path.join(directory, "readers"))],
    [0, []],
  );
  assert.deepEqual(JSON.parse(gapless("queue", "readers", directory, "--json").stdout), []);
  assert.equal(gapless(...remove).status, 2);
  await using again = openSubscriber(directory, "ledger");
  assert.equal(again.position, 1);
});

test("where there is no queue, that is said", (t) => {
  const { status, stderr } = gapless("queue", "stat", makeFastDirectory(t));
  assert.equal(status, 1);
  assert.match(stderr, /^DATA_NOT_YET_AVAILABLE: There is no queue in /);
  assert.equal(gapless("queue", "stat").status, 2);
});

test("times are told in UTC, to the microsecond where that is asked for", () => {
  assert.equal(formatTime(1_700_000_000_123_456_789n, 6), "2023-11-14T22:13:20.123456Z");
  assert.equal(formatTime(1_700_000_000_123_456_789n, 0), "2023-11-14T22:13:20");
  assert.equal(formatTime(2n ** 64n - 1n, 6), "2554-07-21T23:34:33.709551Z");
});

test("the exit code tells that not all of a queue could be read", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await openPublisher(directory, { segmentBytes: 4096, preallocate: false }).close();
  await openSubscriber(directory, "ledger").close();
  const commands = ["stat", "inspect", "readers", "tail"];
  for (const command of commands) {
    assert.equal(gapless("queue", command, directory).status, 0, command);
  }
  fs.writeFileSync(path.join(directory, "readers", "ledger.reader"), "another thing");
  for (const command of ["stat", "inspect", "readers"]) {
    const { status, stdout } = gapless("queue", command, directory);
    assert.equal(status, 1, command);
    assert.match(stdout, /DAMAGED +readers\/ledger\.reader: cut off/);
  }
  assert.doesNotMatch(gapless("queue", "readers", directory).stdout, /nobody/);
  fs.writeFileSync(path.join(directory, "queue.control"), "another thing");
  for (const command of commands) {
    assert.equal(gapless("queue", command, directory).status, 1, command);
  }
});
