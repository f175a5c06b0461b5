/**
 * A message of a channel as its recorder keeps it: the bytes of a message of a journal.
 *
 *   0          4             5          6          7         8              16         24
 *   | ring u32 | producer u8 | topic u8 | cause u8 | zero u8 | sequence f64 | sent f64 |
 *   24
 *   | topic | message ...
 *
 *   ring      identity of the channel's memory: see `Bus.identity`
 *   producer  by its index in the channel
 *   topic     bytes of the topic
 *   cause     why sequences are missing before it: 0 none is, else 1 + its place in `missingCauses`
 *   sent      nanoseconds since boot, 0 where it was not stamped
 *
 * Little-endian. The journal's own ids count what was recorded, from 1 without a hole; its times
 * are when that was. A channel has a journal for each level of priority: PATH/CHANNEL/PRIORITY.
 */
import path from "node:path";
import type { Bus, Channel } from "../bus/bus.ts";
import { GaplessError } from "../errors.ts";

const producerOffset = 4;
const topicBytesOffset = 5;
const causeOffset = 6;
const zeroOffset = 7;
const sequenceOffset = 8;
const sentOffset = 16;
const headerBytes = 24;

/**
 *   skipped      they were never published: dropped before, or abandoned
 *   withdrawn    the same, and nothing is missing: their producers had taken them back
 *   overwritten  the recorder had failed, or was too slow for a channel that drops its oldest
 */
const missingCauses = ["skipped", "overwritten", "withdrawn"] as const;

export type MissingCause = (typeof missingCauses)[number];

export interface Recording {
  readonly ring: number;
  readonly producer: number;
  readonly sequence: number;
  readonly sentNs: number;
  readonly topic: string;
  /** undefined: the one recorded before it is also the one published before it. */
  readonly missingBefore: MissingCause | undefined;
  readonly bytes: Uint8Array;
}

const noTopic = { written: 0 };
/** Bytes of UTF-8 of a UTF-16 code unit, at most. */
const bytesPerUnitMax = 3;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Room that `encodeRecording` needs; what it uses may be less. */
export function recordingBytesMax({ topic, bytes }: Recording): number {
  return headerBytes + topic.length * bytesPerUnitMax + bytes.length;
}

/** Writes a recording at `offset`, where there is room, and returns the offset behind it. */
export function encodeRecording(
  recording: Recording,
  encoded: Uint8Array,
  view: DataView,
  offset: number,
): number {
  const { topic, missingBefore, bytes } = recording;
  const topicStart = offset + headerBytes;
  const { written } =
    topic === "" ? noTopic : encoder.encodeInto(topic, encoded.subarray(topicStart));
  const cause = missingBefore === undefined ? 0 : 1 + missingCauses.indexOf(missingBefore);
  view.setUint32(offset, recording.ring, true);
  view.setUint8(offset + producerOffset, recording.producer);
  view.setUint8(offset + topicBytesOffset, written);
  view.setUint8(offset + causeOffset, cause);
  view.setUint8(offset + zeroOffset, 0);
  view.setFloat64(offset + sequenceOffset, recording.sequence, true);
  view.setFloat64(offset + sentOffset, recording.sentNs, true);
  encoded.set(bytes, topicStart + written);
  return topicStart + written + bytes.length;
}

/** The message in it is a view of `encoded`. @throws GaplessError MESSAGE_MALFORMED */
export function decodeRecording(encoded: Uint8Array): Recording {
  const view = new DataView(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  const start =
    encoded.length < headerBytes ? Infinity : headerBytes + view.getUint8(topicBytesOffset);
  const sequence = start <= encoded.length ? view.getFloat64(sequenceOffset, true) : 0;
  if (!(Number.isSafeInteger(sequence) && sequence > 0) || view.getUint8(zeroOffset) !== 0) {
    throw new GaplessError(
      "MESSAGE_MALFORMED",
      `A message of a recorder's journal is none of its own: bytes=${encoded.length}.`,
    );
  }
  return {
    ring: view.getUint32(0, true),
    producer: view.getUint8(producerOffset),
    sequence,
    sentNs: view.getFloat64(sentOffset, true),
    topic: decoder.decode(encoded.subarray(headerBytes, start)),
    missingBefore: missingCauses[view.getUint8(causeOffset) - 1],
    bytes: encoded.subarray(start),
  };
}

export interface RecordedChannel {
  readonly channel: Channel;
  /** Folder of the journal of a level of priority. */
  journalDirectory(priority: number): string;
}

/** @throws GaplessError CONFIG_INVALID where the channel is not there, or keeps nothing. */
export function findRecorded(bus: Bus, name: string): RecordedChannel {
  const channel = bus.channels.get(name);
  const persistencePath = channel?.recovery?.persistencePath;
  if (channel === undefined || persistencePath === undefined) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `channels.${name}.recovery.enable_persistence: expected true, for what is to be replayed.`,
    );
  }
  return {
    channel,
    journalDirectory: (priority) => path.join(persistencePath, name, String(priority)),
  };
}
