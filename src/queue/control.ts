/** The control file: whose queue it is, who writes, how far it has come, and who sleeps. */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";
import { GaplessError, storageFailed } from "../errors.ts";
import { beatNow, silenceAt } from "../memory/heartbeat.ts";
import { createMappedFile, mapFile, mapFileToRead, type Mapping } from "../memory/mapping.ts";
import { identifySelf, isAlive, type ProcessIdentity } from "../memory/process-identity.ts";
import type { Bed, SleepMemory } from "../memory/sleep.ts";
import {
  controlBytes,
  controlMagic,
  controlOffset,
  epochSalt,
  formatVersion,
  headerOffset,
  parseSegmentFileName,
  positionSalt,
  writerState,
} from "./layout.ts";
import { fileDamaged, openingFailed, remedyOf } from "./storage-errors.ts";

export const controlFileName = "queue.control";
/** Names the process that may write: memory/lock-file.ts. */
export const writerLockName = "writer.lock";

/** What all who sleep for a record sleep on. */
export const readersBed: Bed = {
  asleep: controlOffset.asleep / 4,
  wakes: controlOffset.wakes / 4,
};

const bootIdBytes = 16;

export interface Control extends SleepMemory {
  readonly filePath: string;
  readonly mapping: Mapping;
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  /** Random, the same in all files of the queue. */
  readonly identity: bigint;
}

/** How far the writer has come. */
export interface Position {
  readonly segment: number;
  /** Behind the newest record of the segment. */
  readonly end: number;
  readonly sequence: number;
}

/** Makes the control file where there is none; file and name survive power loss. */
export function createControl(directory: string, identity: bigint): void {
  createMappedFile(
    path.join(directory, controlFileName),
    controlBytes,
    (buffer) => writeHeader(buffer, controlMagic, identity),
    { durable: true },
  );
}

/**
 * @throws GaplessError STORAGE_CORRUPT for a file that is cut off, damaged or of another version,
 *   and where it is missing from a queue; DATA_NOT_YET_AVAILABLE where there is no queue yet
 */
export function openControl(directory: string, access: "read" | "write"): Control {
  const filePath = path.join(directory, controlFileName);
  let mapping: Mapping;
  try {
    mapping = (access === "read" ? mapFileToRead : mapFile)(filePath, controlBytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") throw nothingThere(directory);
    throw openingFailed(filePath, controlMagic, error);
  }
  return controlOf(mapping, filePath);
}

/** The control file in a mapping of it. @throws GaplessError STORAGE_CORRUPT */
export function controlOf(mapping: Mapping, filePath: string): Control {
  try {
    const identity = checkHeader(filePath, mapping.buffer, controlMagic);
    return {
      filePath,
      mapping,
      words: new Int32Array(mapping.buffer),
      doubles: new Float64Array(mapping.buffer),
      address: mapping.address,
      identity,
    };
  } catch (error) {
    mapping.unmap();
    throw error;
  }
}

/** The error for a directory that has segments, and no control file. */
export function controlMissing(directory: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${path.join(directory, controlFileName)} is missing, and segments are there. ` +
      remedyOf(controlMagic),
  );
}

function holdsSegments(directory: string): boolean {
  try {
    return fs.readdirSync(directory).some((name) => parseSegmentFileName(name) !== undefined);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw storageFailed(`looking into ${directory}`, error);
  }
}

/** Whether a queue has been made in the directory. */
export function isQueue(directory: string): boolean {
  return fs.existsSync(path.join(directory, controlFileName));
}

export function newIdentity(): bigint {
  return randomBytes(8).readBigUInt64LE();
}

/** Writes the first line of a file of a queue; what else is in it has to be there already. */
export function writeHeader(buffer: ArrayBuffer, magic: string, identity: bigint): void {
  const view = new DataView(buffer);
  new TextEncoder().encodeInto(magic, new Uint8Array(buffer));
  view.setUint32(headerOffset.version, formatVersion, true);
  view.setBigUint64(headerOffset.identity, identity, true);
  view.setUint32(headerOffset.crc, headerCrc(buffer), true);
}

/**
 * Returns the identity in the first line of a file of a queue.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function checkHeader(filePath: string, buffer: ArrayBuffer, magic: string): bigint {
  const view = new DataView(buffer);
  const damaged = (reason: string): GaplessError => fileDamaged(filePath, magic, reason);
  if (Buffer.from(buffer, 0, magic.length).toString("latin1") !== magic) {
    throw damaged(`it does not begin with ${magic}`);
  }
  if (headerCrc(buffer) !== view.getUint32(headerOffset.crc, true)) {
    throw damaged("the CRC of the header is wrong");
  }
  const version = view.getUint32(headerOffset.version, true);
  if (version !== formatVersion) throw otherVersion(filePath, version);
  return view.getBigUint64(headerOffset.identity, true);
}

/** Of the release that has written the first line; undefined where that does not hold. */
export function versionOf(buffer: ArrayBuffer, magic: string): number | undefined {
  const view = new DataView(buffer);
  const isWhole =
    Buffer.from(buffer, 0, magic.length).toString("latin1") === magic &&
    headerCrc(buffer) === view.getUint32(headerOffset.crc, true);
  return isWhole ? view.getUint32(headerOffset.version, true) : undefined;
}

/** A file that is whole, and not for this release. */
export function otherVersion(filePath: string, version: number): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${filePath} has another format: version=${version}, this release reads ` +
      `version=${formatVersion}. Open it with the release that wrote it.`,
  );
}

function headerCrc(buffer: ArrayBuffer): number {
  return crc32(new Uint8Array(buffer, 0, headerOffset.crc));
}

/** Where the writer has come to; undefined where it was interrupted while it noted that. */
export function readPosition({ words, doubles }: Control): Position | undefined {
  const segment = words[controlOffset.segment / 4] ?? 0;
  const end = words[controlOffset.end / 4] ?? 0;
  const sequence = doubles[controlOffset.sequence / 8] ?? 0;
  const check = words[controlOffset.positionCheck / 4] ?? 0;
  const isWhole =
    check === positionCheckOf(segment, end, sequence) &&
    segment > 0 &&
    Number.isSafeInteger(sequence);
  return isWhole ? { segment, end, sequence } : undefined;
}

/** Whether the position is whole; that of a queue without segments as well. Allocates nothing. */
export function isNoted({ words, doubles }: Control): boolean {
  const segment = words[controlOffset.segment / 4] ?? 0;
  const end = words[controlOffset.end / 4] ?? 0;
  const sequence = doubles[controlOffset.sequence / 8] ?? 0;
  return words[controlOffset.positionCheck / 4] === positionCheckOf(segment, end, sequence);
}

/** Whether the writer has noted that sequence, or a later one. Allocates nothing. */
export function hasNoted(control: Control, sequence: number): boolean {
  const newest = control.doubles[controlOffset.sequence / 8] ?? 0;
  return newest >= sequence && isNoted(control);
}

/** Notes how far the queue goes; in a queue without segments that is nowhere. */
export function notePosition({ words, doubles }: Control, position: Position): void {
  const { segment, end, sequence } = position;
  words[controlOffset.segment / 4] = segment;
  words[controlOffset.end / 4] = end;
  doubles[controlOffset.sequence / 8] = sequence;
  words[controlOffset.positionCheck / 4] = positionCheckOf(segment, end, sequence);
}

/** Exclusive or of a position, with the low 32 bits of its sequence. */
function positionCheckOf(segment: number, end: number, sequence: number): number {
  return segment ^ end ^ sequence ^ positionSalt;
}

/**
 * Makes this process the writer, with an epoch of its own. It has the lock already. Nobody takes
 * over from it before `openWriter`; whoever comes after it, should it be killed before that, knows
 * by `isFencing` that the writer before it may not be fenced yet.
 */
export function enterWriter(control: Control, epoch: number, isFencing: boolean): void {
  const { mapping, words, doubles } = control;
  const { pid, startTicks, bootId } = identifySelf();
  Atomics.store(words, controlOffset.open / 4, isFencing ? writerState.fencing : 0);
  // Of the writer before it, that would be a silence of this one.
  beatNow(words, controlOffset.heartbeat / 4);
  words[controlOffset.pid / 4] = pid;
  doubles[controlOffset.startTicks / 8] = startTicks;
  Buffer.from(mapping.buffer, controlOffset.boot, bootIdBytes).write(bootId, "hex");
  storeEpoch(words, epoch);
}

/** Whoever is killed within leaves one that nothing is checked by, and not one that is damaged. */
function storeEpoch(words: Int32Array, epoch: number): void {
  Atomics.store(words, controlOffset.epochCheck / 4, 0);
  Atomics.store(words, controlOffset.epoch / 4, epoch);
  Atomics.store(words, controlOffset.epochCheck / 4, epochCheckOf(epoch));
}

/** Of what `storeEpoch` stores. */
export function epochCheckOf(epoch: number): number {
  return epoch ^ epochSalt;
}

/** What is wrong with the epoch of the last writer; undefined where nothing is, or can be told. */
export function epochProblem({ words }: Control): string | undefined {
  for (;;) {
    const check = Atomics.load(words, controlOffset.epochCheck / 4);
    const epoch = Atomics.load(words, controlOffset.epoch / 4);
    // It is being stored.
    if (Atomics.load(words, controlOffset.epochCheck / 4) !== check) continue;
    const isWhole = check === 0 || check === epochCheckOf(epoch);
    return isWhole ? undefined : `its epoch=${epoch >>> 0} is not what a writer has stored`;
  }
}

/** From now on it writes. What it has taken to come so far is no silence. */
export function openWriter({ words }: Control): void {
  beatNow(words, controlOffset.heartbeat / 4);
  Atomics.store(words, controlOffset.open / 4, writerState.open);
}

/** The process that writes, or that wrote last. */
export function writerOf({ mapping, words, doubles }: Control): ProcessIdentity {
  return {
    pid: Atomics.load(words, controlOffset.pid / 4),
    startTicks: doubles[controlOffset.startTicks / 8] ?? 0,
    bootId: Buffer.from(mapping.buffer, controlOffset.boot, bootIdBytes).toString("hex"),
  };
}

/** Whether the last writer lived in this boot: then nothing that it stored has been lost. */
export function isOfThisBoot(control: Control): boolean {
  return writerOf(control).bootId === identifySelf().bootId;
}

/** Whether a writer has the queue open, and lives. Reads /proc: for slow paths. */
export function hasLiveWriter(control: Control): boolean {
  return Atomics.load(control.words, controlOffset.open / 4) !== 0 && isAlive(writerOf(control));
}

/** Whether a writer that is not fenced may still live. Reads /proc. */
export function mayHaveWriter(control: Control): boolean {
  const state = Atomics.load(control.words, controlOffset.open / 4);
  return hasLiveWriter(control) || (state === writerState.fencing && isOfThisBoot(control));
}

/** Whether that process has opened the queue, and has been silent for so long since. */
export function isSilent(
  control: Control,
  { pid, startTicks }: ProcessIdentity,
  ms: number,
): boolean {
  const { words } = control;
  const writer = writerOf(control);
  return (
    Atomics.load(words, controlOffset.open / 4) === writerState.open &&
    writer.pid === pid &&
    writer.startTicks === startTicks &&
    silenceAt(words, controlOffset.heartbeat / 4) >= ms
  );
}

/** The publisher makes the control file before any segment. */
function nothingThere(directory: string): GaplessError {
  if (holdsSegments(directory)) return controlMissing(directory);
  return new GaplessError(
    "DATA_NOT_YET_AVAILABLE",
    `There is no queue in ${directory} yet: its publisher makes it.`,
  );
}
