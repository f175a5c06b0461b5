/** What happens to the files of a queue behind everybody's back. */
import fs from "node:fs";
import path from "node:path";
import { controlFileName } from "../../src/queue/control.ts";
import {
  controlOffset,
  recordOffset,
  segmentOffset,
  type ChecksumKind,
} from "../../src/queue/layout.ts";
import { openPublisher } from "../../src/queue/queue.ts";
import { payloadOf } from "./queue-records.ts";

/** Of `writeThreeSegments`. */
export const threeSegments = {
  options: { segmentBytes: 192 * 1024, preallocate: false },
  count: 800,
  sizeOf: (sequence: number): number => 500 + (sequence % 90),
} as const;

/** Three segments with indexes, whose records end at different places, closed. */
export async function writeThreeSegments(
  directory: string,
  checksum: ChecksumKind = "fast",
): Promise<void> {
  const { options, count, sizeOf } = threeSegments;
  await using publisher = openPublisher(directory, { ...options, checksum });
  for (let sequence = 1; sequence <= count; sequence++) {
    publisher.append(1, payloadOf(sequence, sizeOf(sequence)), BigInt(sequence));
  }
}

/** Where a record begins. */
export function offsetOf(filePath: string, sequence: number): number {
  const content = fs.readFileSync(filePath);
  let offset = content.readUInt32LE(segmentOffset.recordsStart);
  while (Number(content.readBigUInt64LE(offset + recordOffset.sequence)) !== sequence) {
    offset += (content.readInt32LE(offset) + 7) & -8;
  }
  return offset;
}

/** Changes what is in a file. */
export function change(filePath: string, how: (content: Buffer) => void): void {
  const content = fs.readFileSync(filePath);
  how(content);
  fs.writeFileSync(filePath, content);
}

/** As if the machine had started again since. */
export function startAgain(directory: string): void {
  change(path.join(directory, controlFileName), (content) =>
    content.fill(0xb0, controlOffset.boot, controlOffset.boot + 16),
  );
}
