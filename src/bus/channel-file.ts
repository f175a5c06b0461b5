/** Creates, checks and maps the file of a channel. */
import { randomInt } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import { GaplessError } from "../errors.ts";
import { createMemoryFile } from "../memory/huge-page-file.ts";
import { mapFile, wholePages, type Mapping } from "../memory/mapping.ts";
import { renewClock } from "../memory/heartbeat.ts";
import { identifySelf } from "../memory/process-identity.ts";
import { grantWishes, type UnmetWish } from "../memory/wishes.ts";
import type { Channel } from "./config.ts";
import { describeChannel, descriptionOf, fingerprint, readDescription } from "./description.ts";
import { disagreements } from "./disagreement.ts";
import { beat } from "./heartbeat.ts";
import { Lane, laneBytesOf } from "./lane.ts";
import {
  consumersMax,
  headerWord,
  layoutVersion,
  magicHigh,
  magicLow,
  pageBytes as controlBytesMin,
  prioritiesMax,
  producersMax,
  ringBytesLog2Max,
  ringBytesLog2Min,
} from "./layout.ts";

/** A channel that is mapped: a lane for each level of priority, the lowest first. */
export interface ChannelFile {
  readonly channel: Channel;
  readonly lanes: readonly [Lane, ...Lane[]];
  /** What of the channel's wishes about its memory could not be met. */
  readonly unmet: readonly UnmetWish[];
  /** Of 32 bits, drawn when the file was made: where it was made anew, sequences begin again. */
  readonly identity: number;
  unmap(): void;
}

/**
 * Opens the file of a channel, creating it where there is none. Any number of processes may do so
 * at once: one of them creates it, and nobody sees it before it is whole.
 *
 * @throws GaplessError STORAGE_FULL, STORAGE_CORRUPT, CONFIG_INVALID where the file was made with
 *   other settings, each of which it names, or PLATFORM_UNSUPPORTED where a strict channel does not
 *   get its memory.
 */
export function openChannelFile(directory: string, channel: Channel): ChannelFile {
  const filePath = channelPath(directory, channel.name);
  const laneBytes = laneBytesOf(channel);
  if (!fs.existsSync(filePath)) {
    // Not of boot, device and inode: an inode may be used again.
    const identity = randomInt(2 ** 32);
    createMemoryFile(
      filePath,
      laneBytes * channel.priorities,
      (buffer) => {
        for (let lane = 0; lane < channel.priorities; lane++) {
          const words = new Int32Array(buffer, lane * laneBytes, headerWord.end);
          writeHeader(words, channel, lane, identity);
          noteCreation(new Lane(channel, buffer, lane, 0n));
        }
        describeChannel(new Lane(channel, buffer, 0, 0n));
      },
      channel,
    );
  }
  const mapping = mapFile(filePath, controlBytesMin);
  let unmet: readonly UnmetWish[];
  try {
    checkFile(mapping, filePath, channel);
    unmet = grantWishes(mapping, channel);
    if (channel.strict && unmet.length > 0) throw notGranted(channel, unmet);
  } catch (error) {
    mapping.unmap();
    throw error;
  }
  const { address, buffer } = mapping;
  const identity = identityIn(new Int32Array(buffer, 0, headerWord.end)) >>> 0;
  const lanes = Array.from(
    { length: channel.priorities },
    (_unused, lane) => new Lane(channel, buffer, lane, address),
  );
  return {
    channel,
    lanes: lanes as [Lane, ...Lane[]],
    unmet,
    identity,
    unmap: () => mapping.unmap(),
  };
}

export function channelPath(directory: string, name: string): string {
  return path.join(directory, `${name}.ring`);
}

/** From here on the silence of a party counts that never comes. */
function noteCreation(lane: Lane): void {
  renewClock();
  for (const producer of lane.channel.producers.keys()) beat(lane.words, lane.producer(producer));
  for (const consumer of lane.channel.consumers.keys()) beat(lane.words, lane.consumer(consumer));
}

function writeHeader(words: Int32Array, channel: Channel, lane: number, identity: number): void {
  words.set(headerOf(channel, lane, identity), headerWord.magicLow);
  words[headerWord.checksum] = headerChecksum(words);
}

/** The header that belongs to settings and identity, but for its checksum. */
function headerOf(channel: Channel, lane: number, identity: number): Int32Array {
  const words = new Int32Array(headerWord.end);
  words[headerWord.magicLow] = magicLow;
  words[headerWord.magicHigh] = magicHigh;
  words[headerWord.version] = layoutVersion;
  words[headerWord.ringBytesLog2] = Math.log2(channel.ringBytes);
  words[headerWord.messageBytesMax] = channel.messageBytesMax;
  words[headerWord.consumers] = channel.consumers.length;
  words[headerWord.fingerprint] = fingerprint(channel);
  words[headerWord.producers] = channel.producers.length;
  words[headerWord.lanes] = channel.priorities;
  words[headerWord.lane] = lane;
  words[headerWord.identity] = identity;
  words.set(bootIdWords(), headerWord.bootId);
  return words;
}

function notGranted({ name }: Channel, unmet: readonly UnmetWish[]): GaplessError {
  const reasons = unmet.map(({ wish, reason }) => `${wish}: ${reason}`).join("; ");
  return new GaplessError(
    "PLATFORM_UNSUPPORTED",
    `Channel ${name} is strict about its memory, and not all of it is to be had. ${reasons}.`,
  );
}

function checkFile({ buffer, pageBytes }: Mapping, filePath: string, channel: Channel): void {
  const first = new Int32Array(buffer, 0, headerWord.end);
  checkChannelHeader(first, filePath);
  if (first[headerWord.fingerprint] !== fingerprint(channel)) {
    throw madeOtherwise(wordsOf(buffer), filePath, channel);
  }
  const laneBytes = laneBytesOf(channel);
  const bytes = wholePages(laneBytes * channel.priorities, pageBytes);
  if (buffer.byteLength !== bytes) {
    throw unusable(filePath, `bytes=${buffer.byteLength}, expected ${bytes}`);
  }
  for (let lane = 0; lane < channel.priorities; lane++) {
    const words = new Int32Array(buffer, lane * laneBytes, headerWord.end);
    checkChannelHeader(words, filePath);
    const expected = headerOf(channel, lane, identityIn(first));
    expected[headerWord.checksum] = headerChecksum(expected);
    // Every access trusts the settings, and the settings only what is compared with them here.
    if (words.some((word, index) => word !== expected[index])) {
      throw unusable(filePath, `the header of lane ${lane} contradicts itself`);
    }
  }
}

/** All whole words of a file. */
export function wordsOf(buffer: ArrayBuffer): Int32Array {
  return new Int32Array(buffer, 0, Math.floor(buffer.byteLength / 4));
}

/** The settings are not those of the file, in whose first lane `words` begin. */
function madeOtherwise(words: Int32Array, filePath: string, channel: Channel): GaplessError {
  checkSizes(words, filePath);
  const known = disagreements(readDescription(words, channel.name), descriptionOf(channel));
  const which = known.length > 0 ? known.join("; ") : "which ones, it does not tell";
  return new GaplessError(
    "CONFIG_INVALID",
    `${filePath} was made with other settings than channel ${channel.name} has now: ${which}. ` +
      "Stop the services that use it and remove it, or give all of them the same configuration.",
  );
}

/**
 * That it is a header of this version and boot, whatever the settings.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function checkChannelHeader(words: Int32Array, filePath: string): void {
  const found = (index: number): number => words[index] ?? 0;
  if (found(headerWord.magicLow) !== magicLow || found(headerWord.magicHigh) !== magicHigh) {
    throw unusable(filePath, "it does not begin with GAPLRING");
  }
  if (found(headerWord.version) !== layoutVersion) {
    throw unusable(filePath, `version=${found(headerWord.version)}, expected ${layoutVersion}`);
  }
  if (found(headerWord.checksum) !== headerChecksum(words)) {
    throw unusable(filePath, "the checksum of its header does not match");
  }
  if (bootIdWords().some((word, index) => word !== found(headerWord.bootId + index))) {
    throw unusable(filePath, "it is from before the last boot");
  }
}

/**
 * That what the header says of sizes is possible, and as much as the file has. `words` are all of
 * the file.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function checkSizes(words: Int32Array, filePath: string): void {
  const found = (index: number): number => words[index] ?? 0;
  const limits: [what: string, count: number, least: number, most: number][] = [
    ["ringBytesLog2", found(headerWord.ringBytesLog2), ringBytesLog2Min, ringBytesLog2Max],
    ["producers", found(headerWord.producers), 1, producersMax],
    ["consumers", found(headerWord.consumers), 1, consumersMax],
    ["lanes", found(headerWord.lanes), 1, prioritiesMax],
  ];
  for (const [what, count, least, most] of limits) {
    if (count >= least && count <= most) continue;
    throw unusable(filePath, `${what}=${count}, expected ${least} to ${most}`);
  }
  const laneBytes = laneBytesOf({
    producers: { length: found(headerWord.producers) },
    consumers: { length: found(headerWord.consumers) },
    ringBytes: 2 ** found(headerWord.ringBytesLog2),
  });
  const bytesMin = laneBytes * found(headerWord.lanes);
  if (words.byteLength >= bytesMin) return;
  throw unusable(filePath, `bytes=${words.byteLength}, expected ${bytesMin}`);
}

/** What the file of a channel is not. */
export function unusable(filePath: string, reason: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${filePath} is not a usable channel: ${reason}. Stop the services that use it and remove ` +
      "it: it is made anew, and consumers fill what it held from their archive.",
  );
}

function identityIn(words: Int32Array): number {
  return words[headerWord.identity] ?? 0;
}

function headerChecksum(words: Int32Array): number {
  const covered = words.subarray(headerWord.checksum + 1, headerWord.end);
  return zlib.crc32(new Uint8Array(covered.buffer, covered.byteOffset, covered.byteLength)) | 0;
}

function bootIdWords(): number[] {
  const { bootId } = identifySelf();
  return [0, 8, 16, 24].map((start) => parseInt(bootId.slice(start, start + 8), 16) | 0);
}

/** What either end finds in a channel that no end of ours has written. */
export function channelDamaged({ channel }: { channel: Channel }, reason: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `Channel ${channel.name} is damaged: ${reason}. Stop its services and remove its file: ` +
      "consumers fill what it held from their archive.",
  );
}
