/** Huge pages of the machine's own, for as long as a test runs: as root, on a machine with room. */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";

export const hugePageBytes = 2 * 1024 * 1024;

const pool = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/** Why this process may not have any; false where it may. For the `skip` of a test. */
export const hugePagesRefused: string | false = tryTaking();

/**
 * Mounts a file system of `pages` huge pages that were not there before, until the test is over.
 * Files in it can be made by the test alone, so others that run meanwhile do not take the pages.
 */
export function mountHugePages(context: TestContext, pages: number): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-huge-pages-"));
  const give = take(pages, directory);
  context.after(() => {
    if (typeof give === "function") give();
    fs.rmdirSync(directory);
  });
  if (typeof give === "string") throw new Error(give);
  return directory;
}

export function readPool(file: string): number {
  return Number(fs.readFileSync(path.join(pool, file), "utf8"));
}

function tryTaking(): string | false {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-huge-pages-"));
  try {
    const give = take(1, directory);
    if (typeof give === "string") return give;
    give();
    return false;
  } finally {
    fs.rmdirSync(directory);
  }
}

/** @returns what gives them back, or why there are none. */
function take(pages: number, directory: string): (() => void) | string {
  if (!fs.existsSync(pool)) return "this kernel has no huge pages of 2 MB";
  const before = countReserved();
  const give = (): void => {
    // Lazily: what is still mapped goes away with the process that has it.
    spawnSync("umount", ["--lazy", directory]);
    resize(countReserved() - pages);
  };
  if (!resize(before + pages)) return "cannot reserve huge pages: not permitted";
  if (countReserved() !== before + pages) {
    resize(before);
    return "cannot reserve huge pages: memory is in pieces";
  }
  const limit = `pagesize=2M,size=${pages * hugePageBytes}`;
  const options = ["-t", "hugetlbfs", "-o", limit, "gapless-test", directory];
  const { status, stderr, error } = spawnSync("mount", options, { encoding: "utf8" });
  if (status === 0) return give;
  resize(before);
  return `cannot mount a hugetlbfs: ${error?.message ?? stderr.trim()}`;
}

/** Pages that a failed test still has mapped go back by themselves, and count as surplus. */
function countReserved(): number {
  return readPool("nr_hugepages") - readPool("surplus_hugepages");
}

function resize(pages: number): boolean {
  try {
    fs.writeFileSync(path.join(pool, "nr_hugepages"), String(pages));
    return true;
  } catch {
    return false;
  }
}
