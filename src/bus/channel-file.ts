/** Creates, checks and maps the file of a channel. */
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import { GaplessError } from "../errors.ts";
import { createMappedFile, mapFile, type Mapping } from "../memory/mapping.ts";
import { identifySelf } from "../memory/process-identity.ts";
import type { Channel } from "./config.ts";
import {
  controlBytes,
  headerWord,
  layoutVersion,
  magicHigh,
  magicLow,
  ringBytesMax,
  ringBytesMin,
} from "./layout.ts";

/** The memory of a channel, as whoever reads or writes a message in place wants it. */
export interface RingMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** 32-bit words, little-endian on every platform that Gapless runs on. */
  readonly words: Int32Array;
  readonly doubles: Float64Array;
}

export interface ChannelFile extends RingMemory {
  readonly channel: Channel;
  readonly address: bigint;
  unmap(): void;
}

/**
 * Opens the file of a channel, creating it where there is none. Any number of processes may do so
 * at once: one of them creates it, and nobody sees it before it is whole.
 *
 * @throws GaplessError STORAGE_FULL, STORAGE_CORRUPT, or CONFIG_INVALID where the file was made
 *   with other settings.
 */
export function openChannelFile(directory: string, channel: Channel): ChannelFile {
  const filePath = path.join(directory, `${channel.name}.ring`);
  const bytes = controlBytes + channel.ringBytes;
  if (!fs.existsSync(filePath)) {
    createMappedFile(filePath, bytes, (buffer) => writeHeader(buffer, channel), { durable: false });
  }
  const mapping = mapFile(filePath, controlBytes);
  try {
    checkHeader(mapping.buffer, filePath, channel);
  } catch (error) {
    mapping.unmap();
    throw error;
  }
  return describeMemory(mapping, channel);
}

function describeMemory(mapping: Mapping, channel: Channel): ChannelFile {
  const { address, buffer } = mapping;
  return {
    channel,
    address,
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer),
    doubles: new Float64Array(buffer),
    unmap: () => mapping.unmap(),
  };
}

function writeHeader(buffer: ArrayBuffer, channel: Channel): void {
  const words = new Int32Array(buffer, 0, headerWord.end);
  words[headerWord.magicLow] = magicLow;
  words[headerWord.magicHigh] = magicHigh;
  words[headerWord.version] = layoutVersion;
  words[headerWord.ringBytesLog2] = Math.log2(channel.ringBytes);
  words[headerWord.messageBytesMax] = channel.messageBytesMax;
  words[headerWord.consumers] = channel.consumers.length;
  words[headerWord.fingerprint] = fingerprint(channel);
  words.set(bootIdWords(), headerWord.bootId);
  words[headerWord.checksum] = headerChecksum(words);
}

function checkHeader(buffer: ArrayBuffer, filePath: string, channel: Channel): void {
  const words = new Int32Array(buffer, 0, headerWord.end);
  const corrupt = (reason: string): GaplessError =>
    new GaplessError(
      "STORAGE_CORRUPT",
      `${filePath} is not a usable channel: ${reason}. Stop the services that use it and remove ` +
        "it: it is made anew, and consumers fill what it held from their archive.",
    );

  const found = (index: number): number => words[index] ?? 0;
  if (found(headerWord.magicLow) !== magicLow || found(headerWord.magicHigh) !== magicHigh) {
    throw corrupt("it does not begin with GAPLRING");
  }
  if (found(headerWord.version) !== layoutVersion) {
    throw corrupt(`version=${found(headerWord.version)}, expected ${layoutVersion}`);
  }
  if (found(headerWord.checksum) !== headerChecksum(words)) {
    throw corrupt("the checksum of its header does not match");
  }
  const ringBytes = 2 ** found(headerWord.ringBytesLog2);
  if (ringBytes < ringBytesMin || ringBytes > ringBytesMax) throw corrupt(`ring=${ringBytes}`);
  if (buffer.byteLength !== controlBytes + ringBytes) {
    throw corrupt(`bytes=${buffer.byteLength}, expected ${controlBytes + ringBytes}`);
  }
  if (bootIdWords().some((word, index) => word !== found(headerWord.bootId + index))) {
    throw corrupt("it is from before the last boot");
  }
  if (found(headerWord.fingerprint) !== fingerprint(channel)) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `${filePath} was made with other settings than channel ${channel.name} has now. Stop the ` +
        "services that use it and remove it, or give all of them the same configuration.",
    );
  }
  // Every access trusts the settings, and the settings only what was compared with them here.
  if (
    ringBytes !== channel.ringBytes ||
    found(headerWord.messageBytesMax) !== channel.messageBytesMax ||
    found(headerWord.consumers) !== channel.consumers.length
  ) {
    throw corrupt("its header and the fingerprint in it contradict each other");
  }
}

function headerChecksum(words: Int32Array): number {
  const covered = words.subarray(headerWord.checksum + 1, headerWord.end);
  return zlib.crc32(new Uint8Array(covered.buffer, covered.byteOffset, covered.byteLength)) | 0;
}

function fingerprint(channel: Channel): number {
  return zlib.crc32(JSON.stringify(channel)) | 0;
}

function bootIdWords(): number[] {
  const { bootId } = identifySelf();
  return [0, 8, 16, 24].map((start) => parseInt(bootId.slice(start, start + 8), 16) | 0);
}

/** What either end finds in a channel that no end of ours has written. */
export function channelDamaged(file: ChannelFile, reason: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `Channel ${file.channel.name} is damaged: ${reason}. Stop its services and remove its file: ` +
      "consumers fill what it held from their archive.",
  );
}
