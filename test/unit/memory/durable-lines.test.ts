/** Lines that are there after a power loss, or whoever wrote them has not gone on. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { recordBufferLoss, readBufferLosses } from "../../../src/buffer/loss-ledger.ts";
import { readLosses, recordLoss } from "../../../src/queue/loss-ledger.ts";
import { appendDurableLine, readDurableLines } from "../../../src/memory/durable-lines.ts";

function directoryOf(t: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-lines-"));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const page = 4096;
const disk = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-lines-full-"));
const isMounted = mount(`size=${2 * page}`);
const skip = isMounted ? false : "needs a tmpfs of its own, and may not mount one here";

function mount(options: string): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "gapless-test", disk], {
      stdio: "ignore",
    });
    return true;
  } catch {
    return false;
  }
}

test.after(() => {
  if (isMounted) execFileSync("umount", [disk]);
  fs.rmdirSync(disk);
});

const linesOf = (filePath: string): readonly unknown[] =>
  readDurableLines(filePath, (document) => document).entries;

test(
  "G2: a line that the disk has room for a part of is an error, and the next one is whole",
  { skip },
  () => {
    const filePath = path.join(disk, "lines");
    appendDurableLine(filePath, JSON.stringify("a".repeat(page - 20)));
    fs.writeFileSync(path.join(disk, "other"), "b".repeat(page));
    assert.throws(
      () => appendDurableLine(filePath, JSON.stringify("c".repeat(100))),
      (error) => isGaplessError(error, "STORAGE_FULL"),
    );
    fs.unlinkSync(path.join(disk, "other"));
    appendDurableLine(filePath, JSON.stringify("d"));
    assert.deepEqual(linesOf(filePath), ["a".repeat(page - 20), "d"]);
  },
);

const ledgers = {
  buffer: {
    record: (directory: string): unknown =>
      recordBufferLoss(directory, {
        cause: "missing",
        consumer: "trades",
        fromId: 1n,
        throughId: 40n,
        atMs: 1,
      }),
    count: (directory: string): number => readBufferLosses(directory).losses.length,
  },
  queue: {
    record: (directory: string): unknown =>
      recordLoss(directory, { cause: "damaged", reader: "ledger", from: 1, to: 40, atMs: 1 }),
    count: (directory: string): number => readLosses(directory).losses.length,
  },
};

for (const [name, { record, count }] of Object.entries(ledgers)) {
  test(`G2: nobody goes on behind a loss of a ${name} that is read, and not yet durable`, (t) => {
    const directory = directoryOf(t);
    const { fsyncSync } = fs;
    let fails = true;
    const synced = new Set<string>();
    t.mock.method(fs, "fsyncSync", (fd: number) => {
      // As a kill would leave it between the write and the sync.
      if (fails) throw Object.assign(new Error("killed"), { code: "EIO" });
      synced.add(fs.readlinkSync(`/proc/self/fd/${fd}`));
      fsyncSync(fd);
    });
    assert.throws(() => record(directory));
    assert.equal(count(directory), 1);
    fails = false;
    record(directory);
    assert.equal(count(directory), 1);
    assert.deepEqual([...synced].sort(), [directory, path.join(directory, "losses.jsonl")]);
  });
}
