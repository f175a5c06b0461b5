/** `gapless queue verify` and `repair`, as a person calls them on a damaged queue. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { openPublisher, openSubscriber, type RepairReport, type VerifyReport } from "gapless/queue";
import { controlFileName } from "../../../src/queue/control.ts";
import { readerFileOf } from "../../../src/queue/reader-file.ts";
import { segmentFileName, segmentOffset } from "../../../src/queue/layout.ts";
import { gapless } from "../../support/bus-command.ts";
import { startChild } from "../../support/queue-children.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";

const options = { segmentBytes: 16 * 1024, preallocate: false };

/** A queue of 20 messages in one segment, whose 15th has lost its length. */
async function writeDamaged(directory: string): Promise<void> {
  const publisher = openPublisher(directory, options);
  for (let sequence = 1; sequence <= 20; sequence++) publisher.append(1, Buffer.alloc(8, 65));
  await publisher.close();
  const file = path.join(directory, segmentFileName(1));
  const content = fs.readFileSync(file);
  content.fill(0, content.readUInt32LE(segmentOffset.recordsStart) + 14 * 40, 16 * 1024);
  fs.writeFileSync(file, content);
}

test("damage is told and makes the exit code 1, and a whole queue does not", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const child = startChild(t, "live", { directory, options, reader: "ledger" });
  await child.next();
  const live = gapless("queue", "verify", directory);
  assert.equal(live.status, 0, live.stdout);
  assert.match(
    live.stdout,
    /^[\d,]+ records, \S+ [KM]B, in \d+ segments: nothing is wrong\. It is written meanwhile: /,
  );
  await child.kill();
  const damaged = path.join(directory, "../damaged");
  await writeDamaged(damaged);
  const { status, stdout } = gapless("queue", "verify", damaged);
  assert.equal(status, 1);
  const [finding = "", ...rest] = stdout.trimEnd().split("\n");
  assert.match(
    finding,
    /^damage {2}0000000001\.segment at 880: there is nothing where sequence=15/,
  );
  assert.match(stdout, /lost: #15 to #20, 6\s+messages/);
  assert.match(rest.join("\n"), /^14 records, 560 B, in 1 segments: damage 1\.$/m);
  assert.match(rest.at(-1) ?? "", /: gapless queue repair \S+ --truncate$/);
  const asJson = gapless("queue", "verify", damaged, "--json");
  const report = JSON.parse(asJson.stdout) as VerifyReport;
  assert.deepEqual([asJson.status, report.isDamaged], [1, true]);
  assert.deepEqual(report.findings[0]?.lost, { from: 15, to: 20 });
});

test("a repair says what it would do, does it when told, and the writer goes on", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await writeDamaged(directory);
  fs.rmSync(path.join(directory, controlFileName));
  const advice = gapless("queue", "repair", directory);
  assert.equal(advice.status, 0);
  assert.match(advice.stdout, /^--truncate {2}end the log at the first damage/m);
  assert.match(advice.stdout, /^--control {3}make queue\.control anew/m);
  const flags = ["queue", "repair", directory, "--truncate", "--control"];
  const would = gapless(...flags);
  assert.equal(would.status, 0, would.stderr);
  assert.match(would.stdout, /^would {2}truncate {2}0000000001\.segment: ends the log behind/m);
  assert.match(would.stdout, /^Nothing was changed: --write does it\.$/m);
  assert.ok(!fs.existsSync(path.join(directory, controlFileName)));
  const done = gapless(...flags, "--write", "--json");
  assert.equal(done.status, 0, done.stderr);
  const { steps, isWritten } = JSON.parse(done.stdout) as RepairReport;
  assert.deepEqual([isWritten, steps.map(({ repair }) => repair)], [true, ["truncate", "control"]]);
  assert.equal(gapless(...flags).stdout, "There is nothing to mend.\n");
  assert.equal(gapless("queue", "verify", directory).status, 0);
  await using publisher = openPublisher(directory, options);
  assert.equal(publisher.lastSequence, 14);
  const refused = gapless(...flags, "--write");
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^WRITER_ALREADY_ACTIVE: /);
});

test("of a reader's file that is damaged, the advice is to forget the reader", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await openPublisher(directory, options).close();
  await openSubscriber(directory, "ledger").close();
  fs.writeFileSync(readerFileOf(directory, "ledger"), "another thing");
  const { stdout } = gapless("queue", "repair", directory);
  assert.match(stdout.replaceAll(/\s+/g, " "), /queue readers --remove ledger forgets the reader/);
  assert.doesNotMatch(stdout, /skip/);
  assert.equal(gapless("queue", "readers", directory, "--remove", "ledger").status, 0);
  assert.equal(gapless("queue", "verify", directory).status, 0);
});
