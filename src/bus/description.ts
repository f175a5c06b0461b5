/**
 * What of a channel's settings is in its file, for whoever looks at it without its configuration.
 *
 * Names and rules are written by the creator, before anybody else sees the file. Peers in other
 * languages need neither read nor write them: what they left out is known by number.
 */
import zlib from "node:zlib";
import type { Backpressure, Channel } from "./config.ts";
import type { Lane } from "./lane.ts";
import {
  consumerWord,
  describedFlag,
  descriptionWord,
  headerWord,
  nameBytesMax,
  partyOffset,
  producerWord,
} from "./layout.ts";

const channelTypes = ["SPSC", "SPMC", "MPSC", "MPMC"] as const satisfies Channel["type"][];

const backpressureModes = [
  "Reject",
  "DropNewest",
  "DropOldest",
  "BlockProducer",
  "AdaptiveThrottle",
  "CircuitBreaker",
] as const satisfies Backpressure["mode"][];

const wordBytes = 4;

/** What the ends of a channel have to agree on; how long one waits is its own. */
export interface ChannelDescription {
  readonly name: string;
  readonly type: Channel["type"];
  readonly producers: readonly string[];
  readonly hasBackup: boolean;
  readonly consumers: readonly string[];
  readonly ringBytes: number;
  readonly messageBytesMax: number;
  readonly priorities: number;
  readonly failedConsumer: Channel["failedConsumer"];
  readonly backpressure: Backpressure["mode"];
  /** False where the file tells no names, or not the right ones: parties are numbered then. */
  readonly isDescribed: boolean;
}

/** Into the first lane of a file that is being made. */
export function describeChannel(lane: Lane): void {
  const { channel, words } = lane;
  const { hasBackup, failedConsumer, producers, consumers } = channel;
  words[descriptionWord.type] = channelTypes.indexOf(channel.type) + 1;
  words[descriptionWord.backpressure] = backpressureModes.indexOf(channel.backpressure.mode) + 1;
  words[descriptionWord.flags] =
    (hasBackup ? describedFlag.hasBackup : 0) |
    (failedConsumer === "wait" ? describedFlag.waitsForFailed : 0);
  producers.forEach((name, index) => writeName(lane, lane.producer(index), name));
  consumers.forEach((name, index) => writeName(lane, lane.consumer(index), name));
}

/** The description of the channel called `name` whose file begins with `words`. */
export function readDescription(words: Int32Array, name: string): ChannelDescription {
  const found = (index: number): number => words[index] ?? 0;
  const counted = (count: number, wordOf: (index: number) => number): string[] =>
    Array.from({ length: count }, (_unused, index) => readName(words, wordOf(index)));
  const producerCount = found(headerWord.producers);
  const producers = counted(producerCount, producerWord);
  const consumers = counted(found(headerWord.consumers), (index) =>
    consumerWord(producerCount, index),
  );
  const flags = found(descriptionWord.flags);
  const described = {
    name,
    type: channelTypes[found(descriptionWord.type) - 1],
    producers,
    hasBackup: (flags & describedFlag.hasBackup) !== 0,
    consumers,
    ringBytes: 2 ** found(headerWord.ringBytesLog2),
    messageBytesMax: found(headerWord.messageBytesMax),
    priorities: found(headerWord.lanes),
    failedConsumer:
      (flags & describedFlag.waitsForFailed) === 0 ? ("evict" as const) : ("wait" as const),
    backpressure: backpressureModes[found(descriptionWord.backpressure) - 1],
  };
  const { type, backpressure } = described;
  if (
    type !== undefined &&
    backpressure !== undefined &&
    fingerprintOf({ ...described, type, backpressure }) === found(headerWord.fingerprint)
  ) {
    return { ...described, type, backpressure, isDescribed: true };
  }
  const numbered = (_unused: string, index: number): string => String(index);
  return {
    ...described,
    type: `${producers.length > 1 ? "M" : "S"}P${consumers.length > 1 ? "M" : "S"}C`,
    producers: producers.map(numbered),
    hasBackup: false,
    consumers: consumers.map(numbered),
    failedConsumer: "evict",
    backpressure: "Reject",
    isDescribed: false,
  };
}

/** The same of a channel whose configuration is known. */
export function descriptionOf(channel: Channel): ChannelDescription {
  const { name, type, producers, hasBackup, consumers, ringBytes, messageBytesMax } = channel;
  const { priorities, failedConsumer, backpressure } = channel;
  const agreed = { name, type, producers, hasBackup, consumers, ringBytes, messageBytesMax };
  const rules = { priorities, failedConsumer, backpressure: backpressure.mode };
  return { ...agreed, ...rules, isDescribed: true };
}

/** Over what both ends have to agree on. */
export function fingerprint(channel: Channel): number {
  return fingerprintOf(descriptionOf(channel));
}

function fingerprintOf(description: Omit<ChannelDescription, "isDescribed">): number {
  const { name, type, producers, hasBackup, consumers, ringBytes, messageBytesMax } = description;
  const { priorities, failedConsumer, backpressure } = description;
  const agreed = { name, type, producers, hasBackup, consumers, ringBytes, messageBytesMax };
  return zlib.crc32(JSON.stringify({ ...agreed, priorities, backpressure, failedConsumer })) | 0;
}

function writeName({ bytes }: Lane, base: number, name: string): void {
  const start = (base + partyOffset.name) * wordBytes;
  new TextEncoder().encodeInto(name, bytes.subarray(start, start + nameBytesMax));
}

function readName(words: Int32Array, base: number): string {
  const start = words.byteOffset + (base + partyOffset.name) * wordBytes;
  const bytes = Buffer.from(words.buffer, start, nameBytesMax);
  const end = bytes.indexOf(0);
  return bytes.toString("latin1", 0, end < 0 ? nameBytesMax : end);
}
