/**
 * Files as memory.
 *
 * A write to a mapped page that the file system has no room for kills the process (SIGBUS), so
 * a file is mapped only after every byte of it has been reserved: a full disk is an error here,
 * and never later. What a mapping cannot defend against is another program truncating the file.
 */
import fs from "node:fs";
import path from "node:path";
import { threadId } from "node:worker_threads";
import { describeError, GaplessError } from "../errors.ts";
import { lastErrno, msync, munmap, posixFallocate, systemCallFailed, viewMemory } from "./libc.ts";
import { emptyPlace, takePlace, viewPlace } from "./places.ts";
import { mapAligned, mapAt, type Access } from "./aligned.ts";
import { syncDirectory } from "./sync-files.ts";

const errnoInterrupted = 4;
const errnoNoSpace = 28;
const errnoQuota = 122;
const errnoFileTooLarge = 27;
const syncWait = 0x4;
const smallPageBytes = 4096;
const hugePageBytes = 2 * 1024 * 1024;
const hugePageFileSystem = 0x9584_58f6;

export interface Mapping {
  readonly address: bigint;
  /**
   * Detached by `unmap`, but for a file in a place: stale views read as empty instead of crashing
   * the process.
   */
  readonly buffer: ArrayBuffer;
  /** Until it is unmapped or handed over. */
  readonly isMapped: boolean;
  /** What the file system hands memory out in: more than 4096 on hugetlbfs. */
  readonly pageBytes: number;
  /** Makes `[offset, offset + length)` durable, on a pool thread. */
  sync(offset: number, length: number): Promise<void>;
  /** Makes `[offset, offset + length)` durable, blocking the caller. */
  syncBlocking(offset: number, length: number): void;
  /** Gives the memory back. No `sync` may be under way. Idempotent. */
  unmap(): void;
  /**
   * The memory, for another thread of this process to adopt or to unmap: here it is over, as after
   * `unmap`. undefined where that was before.
   */
  handOver(): MappedMemory | undefined;
}

/** Memory that is mapped and belongs to nobody, until some thread makes a mapping of it. */
export interface MappedMemory {
  readonly address: bigint;
  readonly bytes: number;
  readonly pageBytes: number;
  readonly isInPlace: boolean;
}

export interface MapOptions {
  /** For files of one size that come and go: what comes is mapped where another one has been. */
  readonly inPlace?: boolean;
}

/**
 * Reserves `bytes` bytes of the open file, so that writes within them cannot run out of space.
 *
 * @throws GaplessError STORAGE_FULL where the file system (or a quota) has not got them.
 */
export function reserve(fd: number, bytes: number, filePath: string): void {
  let errno: number;
  do {
    // A signal interrupts it in shared memory, where it then has reserved nothing.
    errno = posixFallocate(fd, 0, bytes);
  } while (errno === errnoInterrupted);
  if (errno === 0) return;
  if (errno === errnoNoSpace || errno === errnoQuota || errno === errnoFileTooLarge) {
    throw new GaplessError(
      "STORAGE_FULL",
      `No room for ${filePath}: bytes=${bytes}. Free space on its file system, then start again.`,
    );
  }
  throw systemCallFailed(`posix_fallocate of ${filePath} (bytes=${bytes})`, errno);
}

/**
 * Creates a file of `bytes` reserved bytes under its final name in one step: `initialize` fills
 * it under a temporary one, so nobody ever sees it half-made. With `durable`, file and name
 * survive power loss.
 *
 * @returns false where the name exists already; that file is left alone.
 * @throws GaplessError STORAGE_FULL; nothing is left behind.
 */
export function createMappedFile(
  filePath: string,
  bytes: number,
  initialize: (buffer: ArrayBuffer, mapping: Mapping) => void,
  options: MapOptions & { durable: boolean },
): boolean {
  const temporary = `${filePath}.${process.pid}-${threadId}.tmp`;
  try {
    fillFile(temporary, bytes, initialize, { ...options, calledFor: filePath });
    if (!unlessExists(() => fs.linkSync(temporary, filePath))) return false;
    if (options.durable) syncDirectory(path.dirname(filePath));
    return true;
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}

/** Makes a file of `bytes` reserved bytes, in place of any that is there, and fills it. */
export function fillFile(
  filePath: string,
  bytes: number,
  initialize: (buffer: ArrayBuffer, mapping: Mapping) => void,
  options: MapOptions & { durable: boolean; calledFor: string },
): void {
  fs.rmSync(filePath, { force: true });
  const fd = fs.openSync(filePath, "wx+", 0o600);
  try {
    reserve(fd, bytes, options.calledFor);
    const memory = mapOpenFile(fd, bytes, options.calledFor, "write", options);
    const mapping = adoptMapping(memory, options.calledFor);
    try {
      initialize(mapping.buffer, mapping);
      if (options.durable) {
        mapping.syncBlocking(0, bytes);
        fs.fsyncSync(fd);
      }
    } finally {
      // Not unmap(): V8 checks every access of typed arrays once any buffer was detached.
      unmapMemory(memory);
    }
  } finally {
    fs.closeSync(fd);
  }
}

/** @returns false where the name that `make` makes is taken. */
export function unlessExists(make: () => void): boolean {
  try {
    make();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** `bytes`, rounded up to whole pages. */
export function wholePages(bytes: number, pageBytes: number): number {
  return Math.ceil(bytes / pageBytes) * pageBytes;
}

/**
 * Maps the whole of an existing file, shared and writable.
 *
 * @param bytesMin The least that the caller is going to read before it knows better.
 * @throws GaplessError STORAGE_CORRUPT for a file shorter than that, and for a symbolic link whose
 *   file is gone.
 */
export function mapFile(filePath: string, bytesMin: number, options: MapOptions = {}): Mapping {
  return mapExisting(filePath, bytesMin, "write", options);
}

/**
 * The same for looking only: a store into it kills the process (SIGSEGV), so that whoever looks
 * cannot disturb.
 */
export function mapFileToRead(
  filePath: string,
  bytesMin: number,
  options: MapOptions = {},
): Mapping {
  return mapExisting(filePath, bytesMin, "read", options);
}

function mapExisting(
  filePath: string,
  bytesMin: number,
  access: Access,
  options: MapOptions,
): Mapping {
  const fd = openExisting(filePath, access);
  try {
    const bytes = fs.fstatSync(fd).size;
    if (bytes < bytesMin) {
      throw new GaplessError(
        "STORAGE_CORRUPT",
        `${filePath} is cut off: bytes=${bytes}, expected at least ${bytesMin}. ` +
          "Remove it, and what it held is recovered from the stage before it.",
      );
    }
    // A file copied or restored with holes in it has no room for its own pages yet.
    if (access === "write") reserve(fd, bytes, filePath);
    return adoptMapping(mapOpenFile(fd, bytes, filePath, access, options), filePath);
  } finally {
    fs.closeSync(fd);
  }
}

/** Gives memory back that was handed over. Takes milliseconds for 128 MB that were written. */
export function unmapMemory({ address, bytes, pageBytes, isInPlace }: MappedMemory): void {
  if (isInPlace && emptyPlace(address, bytes)) return;
  munmap(address, wholePages(bytes, pageBytes));
}

function openExisting(filePath: string, access: Access): number {
  try {
    return fs.openSync(filePath, access === "read" ? "r" : "r+");
  } catch (error) {
    const isLink = fs.lstatSync(filePath, { throwIfNoEntry: false })?.isSymbolicLink() === true;
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || !isLink) throw error;
    throw new GaplessError(
      "STORAGE_CORRUPT",
      `${filePath} leads to ${fs.readlinkSync(filePath)}, which is gone: huge pages do not ` +
        "outlive a boot. Stop the services that use it and remove it: it is made anew.",
    );
  }
}

/** 4096 but on hugetlbfs, where it is the size of its huge pages. */
function pageBytesOf(fd: number): number {
  const { type, bsize } = fs.statfsSync(`/proc/self/fd/${fd}`);
  return type === hugePageFileSystem ? bsize : smallPageBytes;
}

function mapOpenFile(
  fd: number,
  bytes: number,
  filePath: string,
  access: Access,
  options: MapOptions,
): MappedMemory {
  const pageBytes = pageBytesOf(fd);
  // Of hugetlbfs the kernel maps whole pages, and takes them back only whole.
  const mappedBytes = wholePages(bytes, pageBytes);
  const isInPlace =
    options.inPlace === true && mappedBytes === bytes && pageBytes === smallPageBytes;
  const place = isInPlace ? takePlace(bytes) : undefined;
  const address =
    place === undefined
      ? mapAligned(fd, mappedBytes, Math.max(pageBytes, hugePageBytes), access)
      : mapAt(place, fd, bytes, access);
  if (address === undefined) {
    throw systemCallFailed(`mmap of ${filePath} (bytes=${bytes})`, lastErrno());
  }
  return { address, bytes, pageBytes, isInPlace };
}

/** Makes a mapping of what another thread has handed over. No system call. */
export function adoptMapping(memory: MappedMemory, filePath: string): Mapping {
  const { address, bytes, pageBytes, isInPlace } = memory;
  const buffer = isInPlace ? viewPlace(address, bytes) : viewMemory(address, bytes);
  let mapped = true;

  const failed = (what: unknown): GaplessError =>
    new GaplessError(
      "SYSTEM_CALL_FAILED",
      `msync of ${filePath} failed: ${describeError(what)}. The device may be failing.`,
    );

  const handOver = (): MappedMemory | undefined => {
    if (!mapped) return undefined;
    mapped = false;
    if (!isInPlace) buffer.transfer();
    return memory;
  };

  return {
    address,
    buffer,
    pageBytes,
    get isMapped() {
      return mapped;
    },
    sync(offset, length) {
      const start = offset - (offset % smallPageBytes);
      return new Promise((resolve, reject) => {
        msync.async(address + BigInt(start), offset + length - start, syncWait, (error, result) => {
          if (error !== null || result !== 0) reject(failed(error ?? `result=${result}`));
          else resolve();
        });
      });
    },
    syncBlocking(offset, length) {
      const start = offset - (offset % smallPageBytes);
      const result = msync(address + BigInt(start), offset + length - start, syncWait);
      if (result !== 0) throw failed(`errno=${lastErrno()}`);
    },
    unmap() {
      if (handOver() !== undefined) unmapMemory(memory);
    },
    handOver,
  };
}
