/** Makes a small queue look as if many messages had come before. */
import fs from "node:fs";
import path from "node:path";
import { notePosition, openControl, readPosition } from "../../src/queue/control.ts";
import { recordOffset, segmentOffset } from "../../src/queue/layout.ts";
import { Cursor, recordWord, sumOf } from "../../src/queue/record.ts";
import { beginSegment, openSegment, readBeginning } from "../../src/queue/segment.ts";

/** Adds to every sequence of a queue of one segment that has not ended. Nobody has it open. */
export function moveSequences(directory: string, by: number): void {
  const control = openControl(directory, "write");
  const segment = openSegment(directory, 1, control.identity, "write");
  const beginning = readBeginning(segment);
  const position = readPosition(control);
  if (beginning === undefined || position === undefined) throw new Error("nothing to move");
  const { view, words } = segment;
  const cursor = new Cursor(segment, segment.recordsStart, beginning.firstSequence, 0);
  while (cursor.look(true) === "record") {
    const { offset, length, sequence } = cursor;
    cursor.advance();
    view.setBigUint64(offset + recordOffset.sequence, BigInt(sequence + by), true);
    words[(offset >>> 2) + recordWord.sum] = sumOf(segment, segment.checksum, offset, length);
  }
  view.setUint32(segmentOffset.begun, 0, true);
  beginSegment(segment, { ...beginning, firstSequence: beginning.firstSequence + by });
  notePosition(control, { ...position, sequence: position.sequence + by });
  segment.mapping.unmap();
  control.mapping.unmap();
  fs.rmSync(path.join(directory, "readers"), { recursive: true, force: true });
}
