import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { makeMessages, openIn, readAll } from "./fixture.ts";

const mountPoint = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-buffer-full-"));

function mount(options: string): boolean {
  const args = ["-t", "tmpfs", "-o", options, "gapless-test", mountPoint];
  try {
    execFileSync("mount", args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const mounted = mount("size=4m");
const skip = mounted ? false : "needs a tmpfs of its own, and may not mount one here";
const directory = path.join(mountPoint, "buffer");

test.after(() => {
  if (mounted) execFileSync("umount", [mountPoint]);
  fs.rmdirSync(mountPoint);
});

function isFull(error: unknown): boolean {
  return (
    isGaplessError(error, "STORAGE_FULL") &&
    error.message.includes(directory) &&
    error.message.includes("Free space")
  );
}

/** What the messages are filled with would hardly fill a disk. */
const plain = { useCompression: false };

test(
  "G3: a full disk rejects appends until reopened, and loses nothing acknowledged",
  { skip },
  async () => {
    let acknowledgedId = 0n;
    {
      await using buffer = await openIn(directory, { capacity: 0 }, plain);
      const appendUntilFull = async (): Promise<void> => {
        for (;;) {
          await buffer.append(makeMessages(buffer.lastId, 100));
          acknowledgedId = buffer.lastId;
        }
      };
      await assert.rejects(appendUntilFull(), isFull);
      assert.ok(acknowledgedId > 10_000n, `acknowledgedId=${acknowledgedId}`);

      // Appends that wait behind the failed one, those that come later, and trims.
      await assert.rejects(buffer.append(makeMessages(buffer.lastId, 1)), isFull);
      await assert.rejects(buffer.trim(11n), isFull);
      const read = await readAll(buffer.archive);
      assert.deepEqual(read, makeMessages(0n, Number(acknowledgedId)));
    }
    // RocksDB needs room to open: it writes its log into a table.
    await assert.rejects(openIn(directory), isFull);

    assert.ok(mount("remount,size=64m"));
    await using buffer = await openIn(directory);
    assert.ok(buffer.lastId >= acknowledgedId);
    assert.deepEqual(await readAll(buffer.archive), makeMessages(0n, Number(buffer.lastId)));
    await buffer.append(makeMessages(buffer.lastId, 100));
  },
);

test(
  "G3: appends that wait behind one that found the disk full are rejected like it",
  { skip },
  async () => {
    assert.ok(mount("remount,size=64m"));
    const crowded = path.join(mountPoint, "crowded");
    await using buffer = await openIn(crowded, {}, plain);
    const used = fs.statfsSync(mountPoint);
    assert.ok(mount(`remount,size=${(used.blocks - used.bfree) * used.bsize + 200_000}`));
    const outcomes = await Promise.allSettled(
      Array.from({ length: 50 }, (_, index) =>
        buffer.append(makeMessages(BigInt(index) * 100n, 100)),
      ),
    );
    const kept = outcomes.findIndex(({ status }) => status === "rejected");
    assert.ok(kept >= 0 && BigInt(kept) * 100n === buffer.lastId);
    for (const outcome of outcomes.slice(kept)) {
      assert.ok(outcome.status === "rejected");
      assert.ok(isGaplessError(outcome.reason, "STORAGE_FULL"));
    }
  },
);
