/** A small queue whose bits are flipped one at a time, and what a reader makes of it. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { isGaplessError } from "../../src/errors.ts";
import { openControl } from "../../src/queue/control.ts";
import { oldestSpot } from "../../src/queue/finding.ts";
import { segmentFileName, type ChecksumKind } from "../../src/queue/layout.ts";
import { openPublisher } from "../../src/queue/queue.ts";
import { Reading, type Stretch } from "../../src/queue/reading.ts";
import { Cursor } from "../../src/queue/record.ts";
import { openBegun, type QueueFiles } from "../../src/queue/spot.ts";
import { payloadOf } from "./queue-records.ts";

export const segmentBytes = 4096;

/** Writes three segments of records of many sizes, and returns how many records. */
export async function writeSmallQueue(directory: string, checksum: ChecksumKind): Promise<number> {
  const publisher = openPublisher(directory, { segmentBytes, checksum, preallocate: false });
  // Without a payload, and with one of 32 bytes, a length has a single bit.
  const sizes = [0, 32, 7, 96, 200, 1, 61];
  for (let number = 1; ; number++) {
    publisher.append(number % 5, payloadOf(number, sizeOf(number)), BigInt(number) * 1000n);
    if (fs.existsSync(path.join(directory, segmentFileName(3))) && number % 7 === 0) break;
  }
  // The last segment is half full.
  for (let more = 0; more < 20; more++) {
    const number = publisher.lastSequence + 1;
    publisher.append(number % 5, payloadOf(number, sizeOf(number)), BigInt(number) * 1000n);
  }
  const count = publisher.lastSequence;
  await publisher.close();
  assert.ok(!fs.existsSync(path.join(directory, segmentFileName(4))));
  return count;

  function sizeOf(number: number): number {
    return sizes[number % sizes.length] ?? 0;
  }
}

/** What a reader was given, and what it was told, in order. */
export interface Outcome {
  readonly given: number[];
  readonly losses: Stretch[];
  readonly codes: string[];
  /** Those given whose bytes are not what was written. */
  readonly wrong: number[];
}

/** Reads all there is, and says skip wherever it is told of damage, but for the first time. */
export function readAll(queue: QueueFiles, verify: boolean): Outcome {
  const outcome: Outcome = { given: [], losses: [], codes: [], wrong: [] };
  const reading = new Reading(queue, oldestSpot(queue), { verify, through: "written" });
  try {
    // Many times more than there can be of both.
    for (let step = 0; step < 200; step++) {
      if (poll(reading, outcome) === 0) return outcome;
    }
    throw new Error(`it never ends: ${JSON.stringify(outcome)}`);
  } finally {
    reading.close();
  }
}

/** Returns 0 at the end. */
function poll(reading: Reading, outcome: Outcome): number {
  const take = (): number =>
    reading.poll(({ bytes }, offset, length) => {
      const { sequence, type, timestampNs } = reading.envelope;
      const payload = payloadOf(sequence, length);
      const isRight =
        type === sequence % 5 &&
        timestampNs === BigInt(sequence) * 1000n &&
        Buffer.compare(payload, bytes.subarray(offset, offset + length)) === 0;
      outcome.given.push(sequence);
      if (!isRight) outcome.wrong.push(sequence);
    }, 1000);
  try {
    return take();
  } catch (error) {
    assert.ok(isGaplessError(error), String(error));
    // It stays so until the reader says skip.
    assert.throws(take, (again) => isGaplessError(again, error.code));
    outcome.codes.push(error.code);
    outcome.losses.push(reading.skipUnreadable(() => undefined));
    return 1;
  }
}

/** Every sequence was given once, in order, or is in a loss. */
export function checkOutcome({ given, losses }: Outcome, count: number, what: string): void {
  const lost = losses.flatMap(({ from, to }) =>
    Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index),
  );
  assert.deepEqual(
    [...given],
    [...given].sort((left, right) => left - right),
    what,
  );
  const all = [...given, ...lost].sort((left, right) => left - right);
  assert.deepEqual(
    all,
    Array.from({ length: count }, (_, index) => index + 1),
    what,
  );
}

/** Calls `look` once for each bit of the file that `isMeant`, flipped. */
export function flipEachBit(
  filePath: string,
  isMeant: (bit: number) => boolean,
  look: (bit: number) => void,
): void {
  const content = fs.readFileSync(filePath);
  const fd = fs.openSync(filePath, "r+");
  try {
    for (let bit = 0; bit < content.length * 8; bit++) {
      if (!isMeant(bit)) continue;
      const at = bit >>> 3;
      const byte = content[at] ?? 0;
      fs.writeSync(fd, Buffer.of(byte ^ (1 << (bit & 7))), 0, 1, at);
      look(bit);
      fs.writeSync(fd, Buffer.of(byte), 0, 1, at);
    }
  } finally {
    fs.closeSync(fd);
  }
}

export function openFiles(directory: string): QueueFiles {
  return { directory, control: openControl(directory, "write") };
}

/** Where the last record of a segment begins. */
export function lastRecordOf(queue: QueueFiles, number: number): number {
  const begun = openBegun(queue, number);
  assert.ok(begun);
  const { segment, beginning } = begun;
  const cursor = new Cursor(segment, segment.recordsStart, beginning.firstSequence, 0);
  let last = 0;
  while (cursor.look(true) === "record") {
    last = cursor.offset;
    cursor.advance();
  }
  segment.mapping.unmap();
  return last;
}
