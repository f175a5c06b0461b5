/** Channels, messages and processes that the tests of the bus share. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openBus, parseChannels, type Bus, type Channel, type Channels } from "gapless/bus";
import { openChannelFile, type ChannelFile, type RingMemory } from "../../src/bus/channel-file.ts";
import {
  consumerOffset,
  consumerWord,
  controlBytes,
  producerWord,
  recordHeaderUnits,
  unitBytes,
} from "../../src/bus/layout.ts";

export const channelName = "trades";

/** What a test changes of a channel from `engine` to `ledger`. */
export interface Settings {
  readonly consumers?: readonly string[];
  readonly bufferSize?: string;
  readonly messageSizeMax?: number;
  readonly deadConsumer?: "wait" | "evict";
}

export function channelsOf(settings: Settings = {}): Channels {
  const { consumers = ["ledger"], bufferSize = "4KB", deadConsumer = "wait" } = settings;
  const table = {
    type: "SPMC",
    producer: "engine",
    consumers,
    buffer_size: bufferSize,
    message_size_max: settings.messageSizeMax ?? 496,
    dead_consumer: deadConsumer,
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
 * one: the newest of them is an empty message, and every consumer has released it.
 */
export function ageChannel(file: ChannelFile, position: number, sequence: number): void {
  const { channel, words, doubles } = file;
  const anchor = position - recordHeaderUnits;
  const place = ((anchor % 2 ** 32) + 2 ** 32) % (channel.ringBytes / unitBytes);
  const unit = controlBytes / unitBytes + place;
  words[unit * 2] = 0;
  doubles[unit + 1] = sequence;
  words[producerWord.tail] = position | 0;
  words[producerWord.anchor] = anchor | 0;
  for (const index of channel.consumers.keys()) {
    words[consumerWord(index) + consumerOffset.position] = position | 0;
  }
}

/** Above the highest process id that Linux gives: nobody's. */
const deadPid = 0x7fff_ffff;

/** Makes whoever owns the end dead, as a SIGKILL would. `index` is that of its words. */
export function declareDead(file: ChannelFile, index: number): void {
  Atomics.store(file.words, index, deadPid);
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
