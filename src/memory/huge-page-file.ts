/**
 * Files made of huge pages, under names elsewhere.
 *
 * Huge pages are in a file system of their own (hugetlbfs), and a file is wanted by the side of
 * others. So it is made in the former under a name that nobody else chooses, whole, and then
 * linked, symbolically, into the latter: of several creators the one whose link is first wins.
 * write(2) does not work on such a file, its size is in whole pages, and like all memory it is
 * gone with the next boot.
 *
 * Whoever removes the link, or the directory that it is in, keeps the pages of the file from
 * everybody. So its name tells where the link was, and who made it, in which mount namespace:
 *
 *     gapless-4026531832-%2Fdev%2Fshm%2Fexchange%2Forders.ring.4711-175474-0
 *
 * and the next to wish for huge pages removes those that are not linked any more.
 */
import fs from "node:fs";
import path from "node:path";
import { threadId } from "node:worker_threads";
import { findHugePageMount, readHugePageMounts, type HugePageMount } from "./huge-pages.ts";
import { createMappedFile, fillFile, unlessExists, wholePages, type Mapping } from "./mapping.ts";
import { identifySelf, isAlive } from "./process-identity.ts";
import { grantWishes, type MemoryWishes } from "./wishes.ts";

const prefix = "gapless-";

/**
 * `createMappedFile` for memory that need not outlive the machine, with its wishes granted while
 * nobody else can have mapped it: pages that several processes have cannot be moved to a node.
 * What is not to be had is left out; who maps the file learns that from `grantWishes`.
 */
export function createMemoryFile(
  filePath: string,
  bytes: number,
  initialize: (buffer: ArrayBuffer) => void,
  wishes: MemoryWishes,
): boolean {
  const fill = (buffer: ArrayBuffer, mapping: Mapping): void => {
    grantWishes(mapping, wishes);
    initialize(buffer);
  };
  if (wishes.hugePages) {
    try {
      readHugePageMounts().forEach(removeAbandonedFiles);
      const mount = findHugePageMount(bytes);
      if (mount !== undefined) return createHugePageFile(filePath, bytes, fill, mount);
    } catch {
      // Others were quicker, or may and we may not. What else is wrong, the next call says.
    }
  }
  return createMappedFile(filePath, bytes, fill, { durable: false });
}

/**
 * `createMappedFile` with the file in `mount` and a link to it at `filePath`: as many bytes, but
 * in whole pages.
 *
 * @returns false where the name exists already; that file is left alone.
 * @throws GaplessError STORAGE_FULL where others were quicker to take the pages; nothing is left
 *   behind.
 */
export function createHugePageFile(
  filePath: string,
  bytes: number,
  initialize: (buffer: ArrayBuffer, mapping: Mapping) => void,
  mount: HugePageMount,
): boolean {
  // Before anything is touched: a second file of this thread would have the name of the first.
  if (fs.lstatSync(filePath, { throwIfNoEntry: false }) !== undefined) return false;
  const stored = path.join(mount.directory, nameFor(path.resolve(filePath)));
  let isLinked = false;
  try {
    const options = { durable: false, calledFor: filePath };
    fillFile(stored, wholePages(bytes, mount.pageBytes), initialize, options);
    isLinked = unlessExists(() => fs.symlinkSync(stored, filePath));
    return isLinked;
  } finally {
    if (!isLinked) fs.rmSync(stored, { force: true });
  }
}

/** Removes the files that links in `directory` lead to: before the directory itself is removed. */
export function removeHugePageFiles(directory: string): void {
  if (!fs.existsSync(directory)) return;
  for (const name of fs.readdirSync(directory)) removeStored(path.join(directory, name));
}

/** Removes what `createMemoryFile` has made, wherever its pages are. */
export function removeMemoryFile(filePath: string): void {
  removeStored(filePath);
  fs.rmSync(filePath, { force: true });
}

function removeStored(filePath: string): void {
  const stored = readLink(filePath);
  if (stored === undefined || !path.basename(stored).startsWith(prefix)) return;
  fs.rmSync(stored, { force: true });
}

/** Removes what creators left who died before they linked it, or whose link was removed. */
export function removeAbandonedFiles(mount: HugePageMount): void {
  for (const name of fs.readdirSync(mount.directory)) {
    try {
      const stored = path.join(mount.directory, name);
      if (isAbandoned(stored)) fs.rmSync(stored, { force: true });
    } catch {
      // Another user's, which is theirs to remove.
    }
  }
}

function isAbandoned(stored: string): boolean {
  const name = path.basename(stored);
  const [, namespace, link, suffix = ""] = /^gapless-(\d+)-(.+)\.([\d-]+)$/.exec(name) ?? [];
  // In another namespace the path leads elsewhere, and the process has another number.
  if (namespace !== mountNamespace() || link === undefined) return false;
  const [pid = 0, startTicks = 0] = suffix.split("-").map(Number);
  if (suffix !== ownSuffix() && isAlive({ ...identifySelf(), pid, startTicks })) return false;
  // Read after its creator was found dead: whoever is dead will not link it any more.
  return readLink(decodeURIComponent(link)) !== stored;
}

function nameFor(link: string): string {
  return `${prefix}${mountNamespace()}-${encodeURIComponent(link)}.${ownSuffix()}`;
}

/** Names this thread, which makes one file at a time. */
function ownSuffix(): string {
  const { pid, startTicks } = identifySelf();
  return `${pid}-${startTicks}-${threadId}`;
}

function mountNamespace(): string {
  return fs.readlinkSync("/proc/self/ns/mnt").replace(/\D/g, "");
}

function readLink(filePath: string): string | undefined {
  const isLink = fs.lstatSync(filePath, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  return isLink ? fs.readlinkSync(filePath) : undefined;
}
