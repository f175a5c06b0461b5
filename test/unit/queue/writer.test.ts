import assert from "node:assert/strict";
import test from "node:test";
import { GaplessError, isGaplessError } from "../../../src/errors.ts";
import { headerBytes } from "../../../src/queue/layout.ts";
import { memoryOf } from "../../../src/queue/record.ts";
import { markDurable, type Segment } from "../../../src/queue/segment.ts";
import { Tail } from "../../../src/queue/tail.ts";
import { Writer } from "../../../src/queue/writer.ts";
import { makeDirectory, makeMessages } from "./scratch.ts";

test("after a failed sync nothing is acknowledged, and nothing more is taken", async (t) => {
  const buffer = new ArrayBuffer(65_536);
  let syncs = 0;
  let isMapped = true;
  const failing = async (): Promise<void> => {
    syncs += 1;
    throw new GaplessError("SYSTEM_CALL_FAILED", "msync failed: errno=EIO.");
  };
  const mapping: Segment["mapping"] = {
    address: 0n,
    buffer,
    pageBytes: 4096,
    sync: failing,
    syncBlocking: () => undefined,
    unmap: () => (isMapped = false),
  };
  const segment = { filePath: "none", prevId: 0n, mapping, memory: memoryOf(buffer) };
  markDurable(segment, headerBytes);
  const tail = new Tail(segment, headerBytes, 0n);
  const writer = new Writer(makeDirectory(t), 65_536, { prevIds: [0n], tail });
  const failed = (error: unknown): boolean => isGaplessError(error, "SYSTEM_CALL_FAILED");

  writer.append(makeMessages(0n, 10));
  await Promise.all([
    assert.rejects(writer.flush(), failed),
    assert.rejects(writer.flush(), failed),
  ]);
  assert.equal(writer.durableId, 0n);
  assert.throws(() => writer.append(makeMessages(10n, 1)), failed);
  await assert.rejects(writer.flush(), failed);
  assert.equal(syncs, 1, "a second sync could succeed without the pages that the first one lost");
  await assert.rejects(writer.close(), failed);
  assert.equal(isMapped, false);
});
