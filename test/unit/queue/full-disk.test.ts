import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { openQueue } from "../../../src/queue/queue.ts";
import { mountTinyDisk, tinyDiskRefused } from "../../support/tiny-disk.ts";
import { makeMessage, makeMessages, readAll, segmentNames } from "./scratch.ts";

const options = { skip: tinyDiskRefused };

test("a full disk refuses an append whole, and takes it once there is room", options, async (t) => {
  const mountPoint = mountTinyDisk(t, 2 ** 20);
  const filler = path.join(mountPoint, "filler");
  fs.writeFileSync(filler, Buffer.alloc(600 * 1024));
  const directory = path.join(mountPoint, "queue");
  await using queue = await openQueue({ directory, segmentBytes: 128 * 1024 });
  const refused = (): boolean => {
    try {
      queue.append(makeMessages(queue.lastId, 100));
      return false;
    } catch (error) {
      assert.ok(isGaplessError(error, "STORAGE_FULL"));
      return true;
    }
  };
  while (!refused());
  const { lastId } = queue;
  const names = segmentNames(directory);
  assert.ok(lastId > 1000n && names.length === 3);
  assert.ok(refused(), "still full");
  // What fits into the segment that there is can still be appended.
  queue.append([makeMessage(lastId + 1n, lastId, Number((lastId + 1n) % 90n))]);
  await queue.flush();
  assert.deepEqual(await readAll(queue), makeMessages(0n, Number(lastId) + 1));
  assert.deepEqual(fs.readdirSync(directory).sort(), [...names, "writer.lock"]);

  fs.rmSync(filler);
  assert.equal(refused(), false);
  await queue.flush();
  assert.deepEqual(await readAll(queue), makeMessages(0n, Number(lastId) + 101));
});
