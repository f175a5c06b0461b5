/** The file of one segment: created whole, opened only where its header holds, marked durable. */
import fs from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";
import { GaplessError } from "../errors.ts";
import { createMappedFile, mapFile, syncDirectory, type Mapping } from "../memory/mapping.ts";
import { identifySelf } from "../memory/process-identity.ts";
import {
  bootBytes,
  bootOffset,
  durableOffset,
  headerBytes,
  headerCrcOffset,
  parseSegmentFileName,
  prevIdOffset,
  recordAlignment,
  segmentFileName,
  segmentMagic,
  segmentVersion,
  versionOffset,
} from "./layout.ts";
import { memoryOf, type Memory } from "./record.ts";
import { segmentCorrupt, storageFailed } from "./storage-errors.ts";

export interface Segment {
  readonly filePath: string;
  /** Id of the last message of the segment before. */
  readonly prevId: bigint;
  readonly mapping: Mapping;
  readonly memory: Memory;
}

/** The `prevId` of every segment in the directory, oldest first. */
export function listSegments(directory: string): bigint[] {
  const prevIds: bigint[] = [];
  for (const name of fs.readdirSync(directory)) {
    const prevId = parseSegmentFileName(name);
    if (prevId !== undefined) prevIds.push(prevId);
  }
  return prevIds.sort((a, b) => (a < b ? -1 : 1));
}

/**
 * Creates an empty segment of `bytes` bytes; file and name survive power loss.
 *
 * @throws GaplessError STORAGE_FULL; nothing is left behind.
 */
export function createSegment(directory: string, prevId: bigint, bytes: number): Segment {
  const filePath = path.join(directory, segmentFileName(prevId));
  const foreign = (): GaplessError =>
    segmentCorrupt(filePath, prevId, 0, "the file was not there when the queue was opened");
  if (fs.existsSync(filePath)) throw foreign();
  let isOurs = true;
  try {
    const initialize = (buffer: ArrayBuffer): void => writeHeader(buffer, prevId);
    isOurs = createMappedFile(filePath, bytes, initialize, { durable: true });
    if (!isOurs) throw foreign();
    return openSegment(directory, prevId);
  } catch (error) {
    if (isOurs) fs.rmSync(filePath, { force: true });
    throw storageFailed(`creating ${filePath}`, error);
  }
}

/** @throws GaplessError STORAGE_CORRUPT for a file that is missing or has another header. */
export function openSegment(directory: string, prevId: bigint): Segment {
  const filePath = path.join(directory, segmentFileName(prevId));
  let mapping: Mapping;
  try {
    mapping = mapFile(filePath, headerBytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      throw segmentCorrupt(filePath, prevId, 0, "the file is missing");
    }
    throw storageFailed(`opening ${filePath}`, error);
  }
  const segment = { filePath, prevId, mapping, memory: memoryOf(mapping.buffer) };
  try {
    checkHeader(segment);
  } catch (error) {
    mapping.unmap();
    throw error;
  }
  return segment;
}

/** Removes the file; whether that survives power loss is up to the next `syncDirectory`. */
export function removeSegment(directory: string, prevId: bigint): void {
  fs.rmSync(path.join(directory, segmentFileName(prevId)), { force: true });
}

/** Removes what a process left that was killed while it created a segment. */
export function removeUnfinishedSegments(directory: string): void {
  const unfinished = fs
    .readdirSync(directory)
    .filter((name) => /^\d{20}\.log\..*\.tmp$/.test(name));
  for (const name of unfinished) fs.rmSync(path.join(directory, name), { force: true });
  if (unfinished.length > 0) syncDirectory(directory);
}

/** Offset below which every record is known to be durable. */
export function durableBytes(segment: Segment): number {
  return segment.memory.view.getUint32(durableOffset, true);
}

/** To be called once the records below `offset` are durable, and not before. */
export function markDurable(segment: Segment, offset: number): void {
  segment.memory.view.setUint32(durableOffset, offset, true);
}

/** Whether the last writer lived in this boot: then nothing that it stored has been lost. */
export function isOfThisBoot(segment: Segment): boolean {
  return Buffer.from(segment.mapping.buffer, bootOffset, bootBytes).equals(thisBoot());
}

/** To be called once nothing is left that only a power loss can leave. */
export function stampBoot(segment: Segment): void {
  segment.memory.bytes.set(thisBoot(), bootOffset);
}

function thisBoot(): Buffer {
  return Buffer.from(identifySelf().bootId, "hex");
}

function writeHeader(buffer: ArrayBuffer, prevId: bigint): void {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  bytes.set(segmentMagic, 0);
  view.setUint32(versionOffset, segmentVersion, true);
  view.setBigUint64(prevIdOffset, prevId, true);
  view.setUint32(headerCrcOffset, crc32(bytes.subarray(0, headerCrcOffset)), true);
  view.setUint32(durableOffset, headerBytes, true);
  bytes.set(thisBoot(), bootOffset);
}

function checkHeader(segment: Segment): void {
  const { filePath, prevId } = segment;
  const { bytes, view, capacity } = segment.memory;
  const corrupt = (offset: number, reason: string): GaplessError =>
    segmentCorrupt(filePath, prevId, offset, reason);

  if (!segmentMagic.every((byte, index) => bytes[index] === byte)) {
    throw corrupt(0, "it does not begin with GAPLESSQ");
  }
  const version = view.getUint32(versionOffset, true);
  const crc = crc32(bytes.subarray(0, headerCrcOffset));
  if (crc !== view.getUint32(headerCrcOffset, true)) {
    throw corrupt(headerCrcOffset, "the CRC of the header is wrong");
  }
  if (version !== segmentVersion) {
    throw new GaplessError(
      "STORAGE_CORRUPT",
      `${filePath} has another format: version=${version}, this release reads ` +
        `version=${segmentVersion}. Open it with the release that wrote it.`,
    );
  }
  const prevIdFound = view.getBigUint64(prevIdOffset, true);
  if (prevIdFound !== prevId) {
    throw corrupt(prevIdOffset, `prevId=${prevIdFound.toString()} does not belong to its name`);
  }
  const durable = durableBytes(segment);
  if (durable < headerBytes || durable > capacity || durable % recordAlignment !== 0) {
    throw corrupt(durableOffset, `records were durable through ${durable}, the file ends before`);
  }
}
