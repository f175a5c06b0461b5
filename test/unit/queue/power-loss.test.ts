import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import { bootBytes, bootOffset, durableOffset, headerBytes } from "../../../src/queue/layout.ts";
import { openQueue } from "../../../src/queue/queue.ts";
import { makeFastDirectory, makeMessages, readAll, segmentNames } from "./scratch.ts";

const sectorBytes = 512;
const segmentBytes = 8192;

interface Files {
  readonly [name: string]: Buffer;
}

function readFiles(directory: string): Files {
  return Object.fromEntries(
    segmentNames(directory).map((name) => [name, fs.readFileSync(path.join(directory, name))]),
  );
}

/** What a new segment has on the disk when its creation returns. */
function asCreated(current: Buffer): Buffer {
  const created = Buffer.alloc(current.length);
  current.copy(created, 0, 0, headerBytes);
  return created;
}

interface Scene {
  /** Sizes of the batches that are flushed one by one, and of those after the last flush. */
  readonly flushed: readonly number[];
  readonly unflushed: readonly number[];
  /** Whether a sector that was not yet durable got to the disk: one bit each, used in turn. */
  readonly written: readonly boolean[];
  /** Whether the mark that the last flush left in memory got to the disk by itself. */
  readonly markWritten: boolean;
}

const batches = fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 5 });
const scenes: fc.Arbitrary<Scene> = fc.record({
  flushed: batches,
  unflushed: batches,
  written: fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }),
  markWritten: fc.boolean(),
});

test("G4: a power loss takes any of the unflushed sectors, none of the flushed", async (t) => {
  const root = makeFastDirectory(t);
  let count = 0;
  const seen = { lost: 0, kept: 0, segmentsDropped: 0 };
  await fc.assert(
    fc.asyncProperty(scenes, async (scene) => {
      const directory = path.join(root, String((count += 1)));
      const after = path.join(root, `${count}-after`);
      const queue = await openQueue({ directory, segmentBytes });
      let marks: Files = readFiles(directory);
      for (const size of scene.flushed) {
        marks = readFiles(directory);
        queue.append(makeMessages(queue.lastId, size));
        await queue.flush();
      }
      const durableId = queue.durableId;
      const durable = readFiles(directory);
      // No turn of the event loop from here on: nothing becomes durable behind our back.
      for (const size of scene.unflushed) queue.append(makeMessages(queue.lastId, size));
      const current = readFiles(directory);
      const { lastId } = queue;
      await queue.close();

      fs.mkdirSync(after);
      let sectors = 0;
      for (const [name, now] of Object.entries(current)) {
        const disk = Buffer.from(durable[name] ?? asCreated(now));
        const mark = marks[name];
        if (!scene.markWritten && durable[name] !== undefined) {
          disk.writeUInt32LE(mark?.readUInt32LE(durableOffset) ?? headerBytes, durableOffset);
        }
        for (let at = 0; at < now.length; at += sectorBytes) {
          const isDirty = now.compare(disk, at, at + sectorBytes, at, at + sectorBytes) !== 0;
          if (!isDirty) continue;
          if (scene.written[sectors % scene.written.length] === true) {
            now.copy(disk, at, at, at + sectorBytes);
          }
          sectors += 1;
        }
        // The machine starts again.
        disk.fill(0xb0, bootOffset, bootOffset + bootBytes);
        fs.writeFileSync(path.join(after, name), disk);
      }

      const recovered = await openQueue({ directory: after, segmentBytes });
      try {
        assert.ok(recovered.lastId >= durableId && recovered.lastId <= lastId);
        seen[recovered.lastId < lastId ? "lost" : "kept"] += 1;
        if (segmentNames(after).length < Object.keys(current).length) seen.segmentsDropped += 1;
        recovered.append(makeMessages(recovered.lastId, 50));
        await recovered.flush();
        const all = makeMessages(0n, Number(recovered.lastId));
        assert.deepEqual(await readAll(recovered), all);
      } finally {
        await recovered.close();
      }
      const again = await openQueue({ directory: after, segmentBytes });
      assert.equal(again.lastId, recovered.lastId);
      await again.close();
      for (const place of [directory, after]) fs.rmSync(place, { recursive: true });
    }),
    { numRuns: 60 },
  );
  assert.ok(seen.lost > 0 && seen.kept > 0 && seen.segmentsDropped > 0, JSON.stringify(seen));
});
