/**
 * The file of a channel, seen from outside: mapped for reading, so that whoever looks disturbs
 * nobody, and known by what it tells of itself, so that no configuration is needed.
 */
import fs from "node:fs";
import path from "node:path";
import { mapFileToRead } from "../memory/mapping.ts";
import { checkChannelHeader, checkSizes, wordsOf } from "./channel-file.ts";
import type { Channel } from "./config.ts";
import { readDescription, type ChannelDescription } from "./description.ts";
import { Lane } from "./lane.ts";
import { headerWord, pageBytes } from "./layout.ts";

const suffix = ".ring";

export interface ObservedFile {
  readonly description: ChannelDescription;
  /** One a level of priority, the lowest first. Read only: a store kills the process. */
  readonly lanes: readonly Lane[];
  unmap(): void;
}

/** Names of the channels that have a file in `directory`, in order. */
export function listChannels(directory: string): string[] {
  return fs
    .readdirSync(directory)
    .filter((file) => file.endsWith(suffix) && file.length > suffix.length)
    .map((file) => file.slice(0, -suffix.length))
    .sort();
}

/** @throws GaplessError STORAGE_CORRUPT for what is no channel of this version and boot. */
export function observeFile(filePath: string): ObservedFile {
  const mapping = mapFileToRead(filePath, pageBytes);
  try {
    const { buffer, address } = mapping;
    checkChannelHeader(new Int32Array(buffer, 0, headerWord.end), filePath);
    const words = wordsOf(buffer);
    checkSizes(words, filePath);
    const description = readDescription(words, path.basename(filePath, suffix));
    const channel = channelOf(description);
    const lanes = Array.from(
      { length: description.priorities },
      (_unused, index) => new Lane(channel, buffer, index, address),
    );
    return { description, lanes, unmap: () => mapping.unmap() };
  } catch (error) {
    mapping.unmap();
    throw error;
  }
}

/** Of what a file does not tell, nothing is looked at by whoever only reads. */
function channelOf(description: ChannelDescription): Channel {
  return {
    ...description,
    backpressure: { mode: "Reject", highWater: 1, lowWater: 1 },
    consumerTimeoutMs: Infinity,
    producerTimeoutMs: Infinity,
    timestamps: "off",
    hugePages: false,
    numaNode: undefined,
    prefault: false,
    strict: false,
    recovery: undefined,
  };
}
