/** Places and records that the tests of the queue share. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { controlFileName, openControl, writerLockName } from "../../src/queue/control.ts";
import { controlOffset, recordHeaderBytes, recordOffset } from "../../src/queue/layout.ts";
import { Cursor } from "../../src/queue/record.ts";
import { listSegments, openSegment, readBeginning } from "../../src/queue/segment.ts";

/** A directory that goes with the test. */
export function makeDirectory(context: TestContext, parent = os.tmpdir()): string {
  const directory = fs.mkdtempSync(path.join(parent, "gapless-queue-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const memoryFileSystem = "/dev/shm";

/**
 * The same for tests that open hundreds of queues and look at what the files hold, not at what a
 * disk does: in a file system without a disk that others may keep busy.
 */
export function makeFastDirectory(context: TestContext): string {
  return makeDirectory(context, fs.existsSync(memoryFileSystem) ? memoryFileSystem : os.tmpdir());
}

/**
 * What a SIGKILL at this moment leaves: the files as they are in the page cache, and of the writer,
 * which is this process, nothing that lives.
 */
export function copyAsKilled(directory: string, copy: string): void {
  fs.cpSync(directory, copy, { recursive: true });
  fs.rmSync(path.join(copy, writerLockName), { force: true });
  const file = path.join(copy, controlFileName);
  if (!fs.existsSync(file)) return;
  const content = fs.readFileSync(file);
  content.writeDoubleLE(1, controlOffset.startTicks);
  fs.writeFileSync(file, content);
}

/** Filled with bytes above zero, so that none of them can be missing unseen. */
export function payloadOf(number: number, size = number % 90): Uint8Array {
  return new Uint8Array(size).fill((number % 255) + 1);
}

export interface FoundRecord {
  readonly sequence: number;
  readonly type: number;
  readonly epoch: number;
  readonly timestampNs: bigint;
  readonly payload: Uint8Array;
}

/** Every record that the files hold, by a walk from the first segment on, sums included. */
export function walkQueue(directory: string): FoundRecord[] {
  const records: FoundRecord[] = [];
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  let expected: number | undefined;
  for (const number of listSegments(directory)) {
    const segment = openSegment(directory, number, identity, "read");
    const beginning = readBeginning(segment);
    if (beginning === undefined) {
      segment.mapping.unmap();
      continue;
    }
    expected ??= beginning.firstSequence;
    if (beginning.firstSequence !== expected) throw new Error(`${number}: a hole`);
    const { view, bytes } = segment;
    const cursor = new Cursor(segment, segment.recordsStart, expected, 0);
    let found = cursor.look(true);
    for (; found === "record"; found = cursor.look(true)) {
      const { offset, length, sequence } = cursor;
      records.push({
        sequence,
        type: view.getUint32(offset + recordOffset.type, true),
        epoch: view.getUint32(offset + recordOffset.epoch, true),
        timestampNs: view.getBigUint64(offset + recordOffset.timestamp, true),
        payload: bytes.slice(offset + recordHeaderBytes, offset + length),
      });
      cursor.advance();
    }
    if (found === "damage") throw new Error(`${segment.filePath}: damage at ${cursor.offset}`);
    expected = cursor.sequence;
    segment.mapping.unmap();
  }
  return records;
}
