/** Channels, messages and processes that the tests of the bus share. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import {
  openBus,
  parseChannels,
  type Bus,
  type Channel,
  type Channels,
  type ChannelTable,
} from "gapless/bus";
import { openChannelFile, type ChannelFile } from "../../src/bus/channel-file.ts";
import { lockedBy } from "../../src/bus/claim-lock.ts";
import type { Lane, RingMemory } from "../../src/bus/lane.ts";
import {
  claimWord,
  consumerOffset,
  floorWord,
  partyOffset,
  producerOffset,
  recordHeaderUnits,
  tailWord,
} from "../../src/bus/layout.ts";

export const channelName = "trades";

/** What a test changes of a channel from `engine` to `ledger`. */
export interface Settings {
  /** Several: they share the channel. */
  readonly producers?: readonly string[];
  readonly consumers?: readonly string[];
  readonly bufferSize?: string;
  readonly messageSizeMax?: number;
  readonly failedConsumer?: "wait" | "evict";
  /** Other keys of the channel's table. */
  readonly keys?: Partial<ChannelTable[string]>;
}

export function channelsOf(settings: Settings = {}): Channels {
  const { producers = ["engine"], consumers = ["ledger"], bufferSize = "4KB" } = settings;
  const table = {
    type: producers.length > 1 ? "MPMC" : "SPMC",
    producers,
    consumers,
    buffer_size: bufferSize,
    message_size_max: settings.messageSizeMax ?? 496,
    failed_consumer: settings.failedConsumer ?? "wait",
    // Where a message is stamped its record is longer, and most tests count units.
    timestamps: "off",
    ...settings.keys,
  };
  return parseChannels({ [channelName]: table }, "test");
}

export function channelOf(settings: Settings = {}): Channel {
  const channel = channelsOf(settings).get(channelName);
  assert.ok(channel);
  return channel;
}

/** A directory in memory that goes with the test. */
export function makeDirectory(context: Pick<TestContext, "after">): string {
  const directory = fs.mkdtempSync("/dev/shm/gapless-test-");
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function ringPath(directory: string): string {
  return path.join(directory, `${channelName}.ring`);
}

export function openAs(directory: string, service: string, settings: Settings = {}): Bus {
  return openBus({ directory, channels: channelsOf(settings) }, { service });
}

/** The memory of the channel without an end of it: to look at, and to spoil. */
export function openFile(directory: string, settings: Settings = {}): ChannelFile {
  return openChannelFile(directory, channelOf(settings));
}

/**
 * Makes an unused channel one that has carried `sequence` messages and come to `position`, an even
 * one: the newest of them is an empty message of the first producer, and every consumer has
 * released it.
 */
export function ageChannel(lane: Lane, position: number, sequence: number): void {
  const { channel, words, doubles } = lane;
  const anchor = (position - recordHeaderUnits) | 0;
  const word = lane.wordOf(anchor);
  words[word] = 0;
  doubles[(word >>> 1) + 1] = sequence;
  words[tailWord.tail] = position | 0;
  words[tailWord.anchor] = anchor;
  words[claimWord.claimed] = position | 0;
  words[claimWord.claiming] = (position - 1) | 0;
  words[claimWord.limit] = position | 0;
  doubles[claimWord.sequence / 2] = sequence;
  doubles[claimWord.sequenceBefore / 2] = sequence;
  words[floorWord] = anchor;
  words[lane.producer(0) + producerOffset.newest] = anchor;
  doubles[(lane.producer(0) + producerOffset.messages) / 2] = sequence;
  doubles[(lane.producer(0) + producerOffset.bytes) / 2] = sequence * 8;
  for (const index of channel.consumers.keys()) {
    words[lane.consumer(index) + consumerOffset.position] = position | 0;
    const base = lane.consumer(index) / 2;
    doubles[base + consumerOffset.sequence / 2] = sequence;
    doubles[base + consumerOffset.messages / 2] = sequence;
    doubles[base + consumerOffset.bytes / 2] = sequence * 8;
  }
}

/** Above the highest process id that Linux gives: nobody's. */
const deadPid = 0x7fff_ffff;

/** Makes whoever owns the end dead, as a SIGKILL would. `base` is that of its block. */
export function declareDead({ words }: Lane, base: number): void {
  Atomics.store(words, base + partyOffset.owner, deadPid);
  // It had the lock as a process of its own.
  const party = Atomics.load(words, claimWord.lock) & 0xff;
  if (party !== 0) Atomics.store(words, claimWord.lock, lockedBy(party, deadPid >>> 9));
}

/** The size of the `number`-th message, from 8 to `sizeMax`: mostly small, some of the largest. */
export function sizeOf(number: number, sizeMax: number): number {
  const mixed = Math.imul(number, 0x9e3779b1) >>> 0;
  const range = mixed % 7 === 0 ? sizeMax - 8 : Math.min(56, sizeMax - 8);
  return 8 + ((mixed >>> 8) % (range + 1));
}

/** Writes the `number`-th message: its number, then bytes that follow from number and place. */
export function writeNumbered(
  { bytes, doubles }: RingMemory,
  offset: number,
  length: number,
  number: number,
): void {
  doubles[offset / 8] = number;
  for (let index = 8; index < length; index++) bytes[offset + index] = (number + index * 7) & 0xff;
}

/** Its number. Fails on a message that is torn, cut or of another size than it should be. */
export function readNumbered(
  { bytes, doubles }: RingMemory,
  offset: number,
  length: number,
  sizeMax: number,
): number {
  const number = doubles[offset / 8] ?? NaN;
  const expected = sizeOf(number, sizeMax);
  if (length !== expected)
    throw new Error(`message ${number} has ${length} bytes, not ${expected}`);
  for (let index = 8; index < length; index++) {
    if (bytes[offset + index] !== ((number + index * 7) & 0xff)) {
      throw new Error(`message ${number} is torn at byte ${index}`);
    }
  }
  return number;
}

/** Looks until it is so. For what another process does in its own time. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`It never came to pass: ${what}`);
    await pause(1);
  }
}
