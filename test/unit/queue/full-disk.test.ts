import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { openPublisher, openSubscriber } from "../../../src/queue/queue.ts";
import { payloadOf, walkQueue } from "../../support/queue-records.ts";
import { mountTinyDisk, tinyDiskRefused } from "../../support/tiny-disk.ts";

const options = { skip: tinyDiskRefused };

for (const preallocate of [false, true]) {
  const how = preallocate ? "with" : "without";
  test(
    `a full disk refuses an append, and takes it once there is room: ${how} preallocation`,
    options,
    async (t) => {
      const mountPoint = mountTinyDisk(t, 2 ** 20);
      const filler = path.join(mountPoint, "filler");
      fs.writeFileSync(filler, Buffer.alloc(500 * 1024));
      const directory = path.join(mountPoint, "queue");
      const publisher = openPublisher(directory, { segmentBytes: 128 * 1024, preallocate });
      const isRefused = (): boolean => {
        try {
          publisher.append(1, payloadOf(publisher.lastSequence + 1, 1000));
          return false;
        } catch (error) {
          assert.ok(isGaplessError(error, "STORAGE_FULL"), String(error));
          return true;
        }
      };
      while (!isRefused());
      const { lastSequence } = publisher;
      assert.ok(lastSequence > 250, `${lastSequence}`);
      assert.ok(isRefused(), "still full");
      // What fits into the segment that there is can still be appended, read and made durable.
      assert.equal(publisher.append(1, payloadOf(1, 0)), lastSequence + 1);
      assert.equal((await publisher.flush()).sequence, lastSequence + 1);
      assert.equal(walkQueue(directory).length, lastSequence + 1);

      fs.rmSync(filler);
      assert.equal(isRefused(), false);
      await publisher.close();
      assert.equal(walkQueue(directory).length, lastSequence + 2);
      const left = fs.readdirSync(directory).filter((name) => name.endsWith(".tmp"));
      assert.deepEqual(left, []);
    },
  );
}

test(
  "on a disk that is full, or may not be written, nothing opens, and that has a code",
  options,
  async (t) => {
    const mountPoint = mountTinyDisk(t, 2 ** 20);
    const directory = path.join(mountPoint, "queue");
    await openPublisher(directory, { segmentBytes: 4096, preallocate: false }).close();
    const filler = path.join(mountPoint, "filler");
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(2 ** 21)), { code: "ENOSPC" });
    for (const open of [
      () => openPublisher(path.join(mountPoint, "another")),
      () => openSubscriber(directory, "ledger"),
    ]) {
      assert.throws(open, { code: "STORAGE_FULL" });
    }
    fs.rmSync(filler);
    const { status, stderr } = spawnSync("mount", ["-o", "remount,ro", mountPoint]);
    assert.equal(status, 0, String(stderr));
    for (const open of [
      () => openPublisher(directory),
      () => openPublisher(path.join(mountPoint, "new", "one")),
      () => openSubscriber(directory, "ledger"),
    ]) {
      assert.throws(open, (error) => {
        assert.ok(isGaplessError(error, "SYSTEM_CALL_FAILED"), String(error));
        assert.match(error.message, /EROFS|read-only/);
        return true;
      });
    }
  },
);
