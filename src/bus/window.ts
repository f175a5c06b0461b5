/** Private memory into which a part of a ring is copied, to be read there. */
import type { Lane, RingMemory } from "./lane.ts";
import {
  extension,
  isSkipped,
  isWithdrawn,
  topicBytesMax,
  unitBytes,
  unitsOf,
  unitsOfRecord,
} from "./layout.ts";

const windowBytes = 64 * 1024;

/** Of the size of one record of the largest size at least, and never of much of the ring. */
export function makeWindow({ channel }: Lane): RingMemory {
  const bodyBytesMax = channel.messageBytesMax + extension.stampBytes + topicBytesMax;
  const most = Math.min(windowBytes, channel.ringBytes / 8);
  const bytes = Math.max(most, unitsOf(bodyBytesMax) * unitBytes);
  const buffer = new ArrayBuffer(bytes);
  return {
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer),
    doubles: new Float64Array(buffer),
  };
}

/** Words of the records that are whole, of a copy that was cut off after so many words. */
export function wholeWords({ words }: RingMemory, cutAt: number): number {
  let word = 0;
  while (word < cutAt) {
    const descriptor = words[word] ?? 0;
    const next = word + unitsOfRecord(descriptor) * 2;
    // It leads out of the window, and its first word is all there is to it.
    if (next > cutAt && isSkipped(descriptor) && !isWithdrawn(descriptor)) return word + 2;
    if (next === word || next > cutAt) break;
    word = next;
  }
  return word;
}
