import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import type { Message } from "../../../src/message.ts";
import {
  bootBytes,
  bootOffset,
  parseSegmentFileName,
  segmentFileName,
} from "../../../src/queue/layout.ts";
import { openQueue } from "../../../src/queue/queue.ts";
import { makeDirectory, readAll } from "./scratch.ts";

const specPath = path.join(import.meta.dirname, "../../../spec/segment.md");

test("segment names are 20 digits, sort as their ids do, and lead back to them", () => {
  assert.equal(segmentFileName(0n), "00000000000000000001.log");
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 1n), (a, b) => {
      assert.equal(parseSegmentFileName(segmentFileName(a)), a);
      assert.equal(a < b, segmentFileName(a) < segmentFileName(b));
    }),
  );
  for (const name of ["1.log", "00000000000000000001.log.7.tmp", "writer.lock"]) {
    assert.equal(parseSegmentFileName(name), undefined);
  }
});

test("the example in spec/segment.md is what a writer writes and a reader reads", async (t) => {
  const hex = /```\n([0-9a-f\s]+)```/.exec(fs.readFileSync(specPath, "utf8"))?.[1] ?? "";
  const example = Buffer.alloc(4096);
  Buffer.from(hex.replaceAll(/\s/g, ""), "hex").copy(example);
  const time = 1_700_000_000_000_000_000n;
  const messages: Message[] = [
    { id: 1n, prevId: 0n, timestampNs: time, bytes: new TextEncoder().encode("hello") },
    { id: 5n, prevId: 1n, timestampNs: time + 1n, bytes: new Uint8Array(0) },
  ];

  const written = path.join(makeDirectory(t), "written");
  await using writing = await openQueue({ directory: written, segmentBytes: 4096 });
  writing.append(messages);
  await writing.close();
  const bytes = fs.readFileSync(path.join(written, segmentFileName(0n)));
  example.copy(bytes, bootOffset, bootOffset, bootOffset + bootBytes);
  assert.deepEqual(bytes, example);

  const read = makeDirectory(t);
  fs.writeFileSync(path.join(read, segmentFileName(0n)), example);
  await using reading = await openQueue({ directory: read });
  assert.deepEqual(await readAll(reading), messages);
});
