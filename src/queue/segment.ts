/** The file of one segment: reserved whole, begun once, ended once. */
import fs from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";
import { GaplessError, storageFailed } from "../errors.ts";
import { createMappedFile, mapFile, mapFileToRead, type Mapping } from "../memory/mapping.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { reachedStep } from "../steps.ts";
import { checkHeader, writeHeader } from "./control.ts";
import {
  checksumKinds,
  indexEntriesOf,
  parseSegmentFileName,
  recordAlignment,
  recordsStartOf,
  segmentBytesMax,
  segmentBytesMin,
  segmentFileName,
  segmentHeaderBytes,
  segmentMagic,
  segmentOffset,
  type ChecksumKind,
} from "./layout.ts";
import { openingFailed, segmentDamaged } from "./storage-errors.ts";

/** The bytes of a segment, as whoever reads or writes a payload in place wants them. */
export interface SegmentMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** 32-bit words, little-endian on every platform that Gapless runs on. */
  readonly words: Int32Array;
}

export interface Segment extends SegmentMemory {
  readonly filePath: string;
  readonly number: number;
  readonly mapping: Mapping;
  readonly checksum: ChecksumKind;
  readonly recordsStart: number;
  /** Where the file ends. */
  readonly capacity: number;
}

/** What a segment was begun with. */
export interface Beginning {
  readonly firstSequence: number;
  /** Greatest time of all records before it. */
  readonly latestNs: bigint;
  readonly epoch: number;
}

/** What a segment has ended with. */
export interface Ending {
  readonly lastSequence: number;
  /** Greatest time of all records through it. */
  readonly latestNs: bigint;
  /** Behind its last record. */
  readonly end: number;
}

/** Of the queue that a segment is made for. */
export interface SegmentPlan {
  readonly identity: bigint;
  readonly bytes: number;
  readonly checksum: ChecksumKind;
}

/** The numbers of the segments in the directory, begun or reserved, in order. */
export function listSegments(directory: string): number[] {
  const numbers: number[] = [];
  for (const name of fs.readdirSync(directory)) {
    const number = parseSegmentFileName(name);
    if (number !== undefined) numbers.push(number);
  }
  return numbers.sort((left, right) => left - right);
}

/**
 * Reserves a segment under its name, where there is none; file and name survive power loss.
 *
 * @returns false where the name is taken; that file is left alone.
 * @throws GaplessError STORAGE_FULL; nothing is left behind.
 */
export function reserveSegment(directory: string, number: number, plan: SegmentPlan): boolean {
  const filePath = path.join(directory, segmentFileName(number));
  try {
    const reserve = (buffer: ArrayBuffer): void => {
      writeSegmentHeader(buffer, number, plan);
      reachedStep("queue.reserved");
    };
    const isMade = createMappedFile(filePath, plan.bytes, reserve, {
      durable: true,
      inPlace: true,
    });
    if (isMade) reachedStep("queue.published");
    return isMade;
  } catch (error) {
    throw storageFailed(`reserving ${filePath}`, error);
  }
}

/** Writes the line that never changes; all else is zero in a segment that is only reserved. */
export function writeSegmentHeader(buffer: ArrayBuffer, number: number, plan: SegmentPlan): void {
  const view = new DataView(buffer);
  view.setUint32(segmentOffset.checksum, checksumKinds.indexOf(plan.checksum), true);
  view.setUint32(segmentOffset.number, number, true);
  view.setUint32(segmentOffset.bytes, plan.bytes, true);
  view.setUint32(segmentOffset.recordsStart, recordsStartOf(plan.bytes), true);
  writeHeader(buffer, segmentMagic, plan.identity);
}

/**
 * @throws GaplessError STORAGE_CORRUPT for a file that is cut off, damaged, of another version or
 *   of another queue; DATA_TRIMMED where there is none
 */
export function openSegment(
  directory: string,
  number: number,
  identity: bigint,
  access: "read" | "write",
): Segment {
  const filePath = path.join(directory, segmentFileName(number));
  let mapping: Mapping;
  try {
    const map = access === "read" ? mapFileToRead : mapFile;
    mapping = map(filePath, segmentHeaderBytes, { inPlace: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") throw segmentGone(filePath);
    throw openingFailed(filePath, segmentMagic, error);
  }
  try {
    return segmentOf(mapping, filePath, number, identity);
  } catch (error) {
    mapping.unmap();
    throw error;
  }
}

/** The segment in a mapping of its file. @throws GaplessError STORAGE_CORRUPT */
export function segmentOf(
  mapping: Mapping,
  filePath: string,
  number: number,
  identity: bigint,
): Segment {
  const { buffer } = mapping;
  const found = checkHeader(filePath, buffer, segmentMagic);
  const view = new DataView(buffer);
  const bytes = view.getUint32(segmentOffset.bytes, true);
  const checksum = checksumKinds[view.getUint32(segmentOffset.checksum, true)];
  const damaged = (offset: number, reason: string): GaplessError =>
    segmentDamaged(filePath, offset, reason);

  if (view.getUint32(segmentOffset.number, true) !== number) {
    throw damaged(segmentOffset.number, "it has the number of another segment");
  }
  if (found !== identity) throw damaged(0, "it is of another queue");
  if (checksum === undefined) throw damaged(segmentOffset.checksum, "no such kind of checksum");
  if (bytes !== buffer.byteLength || bytes < segmentBytesMin || bytes > segmentBytesMax) {
    throw damaged(segmentOffset.bytes, `it should have ${bytes} bytes, not ${buffer.byteLength}`);
  }
  return {
    filePath,
    number,
    mapping,
    checksum,
    recordsStart: recordsStartOf(bytes),
    capacity: bytes,
    bytes: new Uint8Array(buffer),
    view,
    words: new Int32Array(buffer),
  };
}

/** Begins a segment that was only reserved: from now on readers go on in it. */
export function beginSegment(segment: Segment, beginning: Beginning): void {
  const { view, words } = segment;
  view.setBigUint64(segmentOffset.firstSequence, BigInt(beginning.firstSequence), true);
  view.setBigUint64(segmentOffset.latestNs, beginning.latestNs, true);
  view.setUint32(segmentOffset.epoch, beginning.epoch, true);
  words[segmentOffset.begunCrc / 4] = lineCrc(segment, segmentOffset.firstSequence);
  // SYNC segment-begun: after its first sequence; pairs with readBeginning.
  Atomics.store(words, segmentOffset.begun / 4, 1);
}

/**
 * What the segment was begun with; undefined where it is only reserved.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function readBeginning(segment: Segment): Beginning | undefined {
  const { view, words, filePath } = segment;
  // SYNC segment-begun: before its first sequence; pairs with beginSegment.
  const begun = Atomics.load(words, segmentOffset.begun / 4);
  if (begun === 0) return undefined;
  const isWhole =
    begun === 1 &&
    words[segmentOffset.begunCrc / 4] === lineCrc(segment, segmentOffset.firstSequence);
  if (!isWhole) {
    throw segmentDamaged(filePath, segmentOffset.firstSequence, "the line of its beginning");
  }
  return {
    firstSequence: Number(view.getBigUint64(segmentOffset.firstSequence, true)),
    latestNs: view.getBigUint64(segmentOffset.latestNs, true),
    epoch: view.getUint32(segmentOffset.epoch, true),
  };
}

/** Notes what a segment has ended with, for whoever does not want to walk through it. */
export function sealSegment(segment: Segment, ending: Ending): void {
  const { view, words } = segment;
  view.setBigUint64(segmentOffset.lastSequence, BigInt(ending.lastSequence), true);
  view.setBigUint64(segmentOffset.lastNs, ending.latestNs, true);
  view.setUint32(segmentOffset.end, ending.end, true);
  words[segmentOffset.sealedCrc / 4] = lineCrc(segment, segmentOffset.lastSequence);
  // SYNC segment-sealed: after the rest of its line; pairs with readEnding.
  Atomics.store(words, segmentOffset.sealed / 4, 1);
}

/** Takes the end of a segment back that a power loss has left nothing behind. */
export function unsealSegment({ words }: Segment): void {
  Atomics.store(words, segmentOffset.sealed / 4, 0);
}

/**
 * What the segment has ended with; undefined where it has not.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function readEnding(segment: Segment): Ending | undefined {
  const { view, words, filePath, recordsStart, capacity } = segment;
  // SYNC segment-sealed: before the rest of its line; pairs with sealSegment.
  const sealed = Atomics.load(words, segmentOffset.sealed / 4);
  if (sealed === 0) return undefined;
  const end = view.getUint32(segmentOffset.end, true);
  const isWhole =
    sealed === 1 &&
    words[segmentOffset.sealedCrc / 4] === lineCrc(segment, segmentOffset.lastSequence) &&
    end >= recordsStart &&
    end <= capacity;
  if (!isWhole) throw segmentDamaged(filePath, segmentOffset.lastSequence, "the line of its end");
  return {
    lastSequence: Number(view.getBigUint64(segmentOffset.lastSequence, true)),
    latestNs: view.getBigUint64(segmentOffset.lastNs, true),
    end,
  };
}

/**
 * Offset below which every record is known to be durable.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function durableEnd({ filePath, view, recordsStart, capacity }: Segment): number {
  const durable = view.getUint32(segmentOffset.durable, true);
  if (durable === 0) return recordsStart;
  if (durable < recordsStart || durable > capacity || durable % recordAlignment !== 0) {
    throw segmentDamaged(filePath, segmentOffset.durable, `${durable} cannot be what is durable`);
  }
  return durable;
}

/** To be called once everything below `end` is durable, and not before. */
export function markDurable({ words }: Segment, end: number): void {
  Atomics.store(words, segmentOffset.durable / 4, end);
}

/** The same for one that may have been fenced meanwhile: what its successor has marked stays. */
export function raiseDurable({ words }: Segment, end: number): void {
  const index = segmentOffset.durable / 4;
  for (let known = Atomics.load(words, index); known < end;) {
    const before = Atomics.compareExchange(words, index, known, end);
    if (before === known) return;
    known = before;
  }
}

/** How many entries of the index there are; more than there is room for would be damage. */
export function indexedOf({ words, capacity }: Segment): number {
  const count = Atomics.load(words, segmentOffset.indexed / 4);
  return count >= 0 && count <= indexEntriesOf(capacity) ? count : 0;
}

/** Removes the file; whether that survives power loss is up to the next `syncDirectory`. */
export function removeSegment(directory: string, number: number): void {
  fs.rmSync(path.join(directory, segmentFileName(number)), { force: true });
}

/** Removes what a process left that was killed while it reserved a segment. */
export function removeUnfinishedSegments(directory: string): void {
  const unfinished = fs
    .readdirSync(directory)
    .filter((name) => /^(\d{10}\.segment|queue\.control)\..*\.tmp$/.test(name));
  for (const name of unfinished) fs.rmSync(path.join(directory, name), { force: true });
  if (unfinished.length > 0) syncDirectory(directory);
}

const lineCrcBytes = 20;

function lineCrc({ bytes }: Segment, offset: number): number {
  return crc32(bytes.subarray(offset, offset + lineCrcBytes)) | 0;
}

function segmentGone(filePath: string): GaplessError {
  return new GaplessError(
    "DATA_TRIMMED",
    `${filePath} is not there any more: its records were deleted, or it was moved away.`,
  );
}
