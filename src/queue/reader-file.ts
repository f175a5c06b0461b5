/**
 * The file of a reader: how far it has come, and whether somebody reads.
 *
 * A commit goes into the slot that is not the newest, so that one is whole whenever it is
 * interrupted. It survives a killed process; a power loss may take the newest commits back, and
 * then what came behind them is delivered again.
 */
import fs from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";
import { assert, GaplessError, isGaplessError, storageFailed } from "../errors.ts";
import { beatAt, renewClock, silenceAt } from "../memory/heartbeat.ts";
import { acquireLock, adoptLock, readHolder } from "../memory/lock-file.ts";
import {
  adoptMapping,
  createMappedFile,
  mapFile,
  mapFileToRead,
  type MappedMemory,
  type Mapping,
} from "../memory/mapping.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { identifySelf, isAlive } from "../memory/process-identity.ts";
import { checkHeader, writeHeader } from "./control.ts";
import { readerBytes, readerMagic, readerOffset, slotOffset } from "./layout.ts";
import { fileDamaged, openingFailed } from "./storage-errors.ts";

export const readersFolder = "readers";

const extension = ".reader";
const namePattern = /^[A-Za-z0-9._-]{1,64}$/;
const bootIdBytes = 16;
/** So many steps cost as much as a look at the clock, or more. */
const stepsPerBeat = 256;
/** Whoever looks at what somebody else commits looks so often before it calls that damaged. */
const looksMax = 100;

/** How far a reader has come. */
export interface Committed {
  /** Everything through it was taken and dealt with. */
  readonly sequence: number;
  /** Of that record; 0 where it is not known. */
  readonly epoch: number;
}

/** What the file of a reader says, to whoever looks from outside. */
export interface ReaderPresence {
  readonly name: string;
  /** undefined before its first commit. */
  readonly committed: Committed | undefined;
  /** The newest sequence that it was given. */
  readonly taken: number;
  /** It has been passed over through this sequence by retention. */
  readonly passedOver: number;
  /** Of the process that reads, or that was killed as it did; undefined where it has closed. */
  readonly pid: number | undefined;
  /** Whether the process that reads, or that has read last, is alive. */
  readonly isAlive: boolean;
  /** Since it last did something; Infinity where that was before this boot. */
  readonly silentMs: number;
  /** When it was last seen, in milliseconds since 1970. */
  readonly seenMs: number;
}

/** The file of a reader on its way to another thread. */
export interface HandedReaderFile {
  readonly memory: MappedMemory;
  readonly lockToken: string;
}

interface ReaderMemory {
  readonly mapping: Mapping;
  readonly words: Int32Array;
  readonly doubles: Float64Array;
}

interface Slot extends Committed {
  readonly index: number;
  readonly generation: number;
}

/** @throws GaplessError CONFIG_INVALID for what cannot be the name of a reader. */
export function checkReaderName(name: string): void {
  if (typeof name === "string" && namePattern.test(name) && !/^\.+$/.test(name)) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    `reader=${JSON.stringify(name)}: expected 1 to 64 letters, digits, dots, - and _.`,
  );
}

export class ReaderFile {
  readonly name: string;
  private readonly memory: ReaderMemory;
  private readonly words: Int32Array;
  private readonly doubles: Float64Array;
  private readonly slotBytes: readonly [Uint8Array, Uint8Array];
  private readonly lockPath: string;
  private readonly release: () => void;
  private newest: Slot | undefined;
  private stepsToBeat = 0;
  private isOpen = true;

  /**
   * Opens the file of a reader of this process, and makes it where there is none. With `handed` it
   * is open already, by another thread.
   *
   * @throws GaplessError ALREADY_OPEN with who reads; STORAGE_CORRUPT; STORAGE_FULL
   */
  constructor(directory: string, name: string, identity: bigint, handed?: HandedReaderFile) {
    const filePath = readerFileOf(directory, name);
    this.name = name;
    this.lockPath = readerLockOf(directory, name);
    try {
      if (handed === undefined) fs.mkdirSync(path.dirname(filePath), { recursive: true });
      this.release =
        handed === undefined
          ? acquireLock(this.lockPath)
          : adoptLock(this.lockPath, handed.lockToken);
    } catch (error) {
      throw storageFailed(`opening ${filePath}`, error);
    }
    try {
      const isMade = handed === undefined && makeReaderFile(filePath, identity);
      // The folder has to last as well, whoever has made it.
      if (isMade) syncDirectory(directory);
      this.memory =
        handed === undefined
          ? openMemory(filePath, identity, "write")
          : memoryOf(adoptMapping(handed.memory, filePath));
      this.newest = newestSlot(filePath, this.memory);
    } catch (error) {
      this.release();
      throw storageFailed(`opening ${filePath}`, error);
    }
    const { words, doubles, mapping } = this.memory;
    this.words = words;
    this.doubles = doubles;
    this.slotBytes = [0, 1].map(
      (index) => new Uint8Array(mapping.buffer, slotAt(index), slotOffset.crc),
    ) as [Uint8Array, Uint8Array];
    if (handed === undefined) this.enter();
  }

  /** undefined before the first commit. */
  get committed(): Committed | undefined {
    return this.newest;
  }

  /** It has been passed over through this sequence by retention. */
  get passedOver(): number {
    return this.doubles[readerOffset.passedOver / 8] ?? 0;
  }

  /** Notes that all through `sequence` is dealt with. */
  commit(sequence: number, epoch: number): void {
    const index = this.newest?.index === 0 ? 1 : 0;
    const generation = ((this.newest?.generation ?? 0) + 1) >>> 0;
    const at = slotAt(index);
    this.doubles[(at + slotOffset.sequence) / 8] = sequence;
    this.words[(at + slotOffset.epoch) / 4] = epoch;
    this.words[(at + slotOffset.generation) / 4] = generation;
    this.words[(at + slotOffset.crc) / 4] = crc32(this.slotBytes[index]);
    this.newest = { index, sequence, epoch, generation };
  }

  /** Takes what was committed to the device, blocking the caller. */
  sync(): void {
    this.memory.mapping.syncBlocking(0, readerBytes);
  }

  /** Notes the newest sequence that was given. */
  noteTaken(sequence: number): void {
    this.doubles[readerOffset.taken / 8] = sequence;
  }

  /** Told of messages, and of looks that find none: now and then it notes that somebody reads. */
  noteSteps(count: number): void {
    this.stepsToBeat -= count;
    if (this.stepsToBeat > 0) return;
    this.stepsToBeat = stepsPerBeat;
    this.beat();
  }

  /** Notes that somebody reads, also for whoever looks after a boot. */
  noteSeen(): void {
    this.beat();
    this.doubles[readerOffset.seenMs / 8] = Date.now();
  }

  /** Lets another thread of this process have it. Here it is closed. */
  handOver(): HandedReaderFile {
    this.isOpen = false;
    const lockToken = readHolder(this.lockPath)?.token ?? "";
    const memory = this.memory.mapping.handOver();
    assert(memory !== undefined, "the file of a reader is handed over that is closed");
    return { memory, lockToken };
  }

  /** Lets another one read. Idempotent. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.noteSeen();
    this.words[readerOffset.pid / 4] = 0;
    this.memory.mapping.unmap();
    this.release();
  }

  private beat(): void {
    // In a loop without a rest no timer does it.
    renewClock();
    beatAt(this.words, readerOffset.heartbeat / 4);
  }

  private enter(): void {
    const { pid, startTicks, bootId } = identifySelf();
    this.words[readerOffset.pid / 4] = pid;
    this.doubles[readerOffset.startTicks / 8] = startTicks;
    Buffer.from(this.memory.mapping.buffer, readerOffset.boot, bootIdBytes).write(bootId, "hex");
    // Until it has found where it begins, it may need anything.
    this.noteTaken(0);
    this.noteSeen();
  }
}

/** Where the position of a reader is. */
export function readerFileOf(directory: string, name: string): string {
  return path.join(directory, readersFolder, `${name}${extension}`);
}

/** Which process reads under that name. */
export function readerLockOf(directory: string, name: string): string {
  return path.join(directory, readersFolder, `${name}.lock`);
}

/** The names of all who read a queue, or have read it. */
export function listReaders(directory: string): string[] {
  let names: string[];
  try {
    names = fs.readdirSync(path.join(directory, readersFolder));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  return names
    .filter((name) => name.endsWith(extension))
    .map((name) => name.slice(0, -extension.length))
    .sort();
}

/**
 * What the file of a reader says, without disturbing it.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function lookAtReader(directory: string, name: string, identity: bigint): ReaderPresence {
  const filePath = readerFileOf(directory, name);
  const memory = openMemory(filePath, identity, "read");
  const { words, doubles, mapping } = memory;
  try {
    const bootId = Buffer.from(mapping.buffer, readerOffset.boot, bootIdBytes).toString("hex");
    const pid = words[readerOffset.pid / 4] ?? 0;
    const startTicks = doubles[readerOffset.startTicks / 8] ?? 0;
    const isOfThisBoot = bootId === identifySelf().bootId;
    return {
      name,
      committed: newestSlotSoon(filePath, memory),
      taken: doubles[readerOffset.taken / 8] ?? 0,
      passedOver: doubles[readerOffset.passedOver / 8] ?? 0,
      pid: pid > 0 ? pid : undefined,
      isAlive: pid > 0 && isAlive({ pid, startTicks, bootId }),
      silentMs: isOfThisBoot ? silenceAt(words, readerOffset.heartbeat / 4) : Infinity,
      seenMs: doubles[readerOffset.seenMs / 8] ?? 0,
    };
  } finally {
    mapping.unmap();
  }
}

/** Whether one of its slots is not whole. Where the reader lives, it may be at it. */
export function hasTornSlot(directory: string, name: string, identity: bigint): boolean {
  const memory = openMemory(readerFileOf(directory, name), identity, "read");
  try {
    return [0, 1].some((index) => readSlot(memory, index) === "torn");
  } finally {
    memory.mapping.unmap();
  }
}

/**
 * Notes in the file of a reader, whether anybody reads or not, that it is not waited for through
 * this sequence. Survives power loss.
 */
export function notePassedOver(
  directory: string,
  name: string,
  identity: bigint,
  sequence: number,
): void {
  const filePath = readerFileOf(directory, name);
  const { mapping, doubles } = openMemory(filePath, identity, "write");
  doubles[readerOffset.passedOver / 8] = sequence;
  mapping.syncBlocking(0, readerBytes);
  mapping.unmap();
}

function openMemory(filePath: string, identity: bigint, access: "read" | "write"): ReaderMemory {
  let mapping: Mapping;
  try {
    mapping = (access === "read" ? mapFileToRead : mapFile)(filePath, readerBytes);
  } catch (error) {
    throw isGaplessError(error) ? openingFailed(filePath, readerMagic, error) : error;
  }
  try {
    if (checkHeader(filePath, mapping.buffer, readerMagic) !== identity) {
      throw damaged(filePath, "it is of another queue");
    }
  } catch (error) {
    mapping.unmap();
    throw error;
  }
  return memoryOf(mapping);
}

function memoryOf(mapping: Mapping): ReaderMemory {
  const { buffer } = mapping;
  return { mapping, words: new Int32Array(buffer), doubles: new Float64Array(buffer) };
}

/** Returns whether there was none. */
function makeReaderFile(filePath: string, identity: bigint): boolean {
  const initialize = (buffer: ArrayBuffer): void => writeHeader(buffer, readerMagic, identity);
  return createMappedFile(filePath, readerBytes, initialize, { durable: true });
}

/** The same for one that somebody may be writing: between two looks he can be in both slots. */
function newestSlotSoon(filePath: string, memory: ReaderMemory): Slot | undefined {
  for (let tries = 1; tries < looksMax; tries++) {
    try {
      return newestSlot(filePath, memory);
    } catch (error) {
      if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
    }
  }
  return newestSlot(filePath, memory);
}

/** undefined where nothing was committed yet. */
function newestSlot(filePath: string, memory: ReaderMemory): Slot | undefined {
  const slots = [0, 1].map((index) => readSlot(memory, index));
  const whole = slots.filter((slot) => typeof slot !== "string");
  // The first commit may have been interrupted, and only that one.
  const isNew = slots.every((slot) => typeof slot === "string") && slots[1] === "empty";
  if (whole.length === 0 && !isNew) throw damaged(filePath, "neither of its two slots is whole");
  const [first, second] = whole;
  if (first === undefined || second === undefined) return first;
  return ((first.generation - second.generation) | 0) > 0 ? first : second;
}

function readSlot({ mapping, words, doubles }: ReaderMemory, index: number) {
  const at = slotAt(index);
  const bytes = new Uint8Array(mapping.buffer, at, readerOffset.slotBytes);
  if (bytes.every((byte) => byte === 0)) return "empty";
  const crc = words[(at + slotOffset.crc) / 4] ?? 0;
  const sequence = doubles[(at + slotOffset.sequence) / 8] ?? -1;
  const isWhole =
    crc32(bytes.subarray(0, slotOffset.crc)) === crc >>> 0 &&
    Number.isSafeInteger(sequence) &&
    sequence >= 0;
  if (!isWhole) return "torn";
  const epoch = (words[(at + slotOffset.epoch) / 4] ?? 0) >>> 0;
  const generation = (words[(at + slotOffset.generation) / 4] ?? 0) >>> 0;
  return { index, sequence, epoch, generation };
}

function slotAt(index: number): number {
  return readerOffset.slots + index * readerOffset.slotBytes;
}

function damaged(filePath: string, reason: string): GaplessError {
  return fileDamaged(filePath, readerMagic, reason);
}
