/** What the kernel has of a file or directory, made to survive power loss. */
import fs from "node:fs";
import path from "node:path";

/** Makes creations, renames and removals within a directory survive power loss. */
export function syncDirectory(directory: string): void {
  syncFile(directory);
}

/** Makes what is in a file survive power loss. */
export function syncFile(filePath: string): void {
  const fd = fs.openSync(filePath, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * Makes the directory so that its own name, and those of the parents made with it, last. One by
 * one: Node's own recursion does not end where a file system refuses a new directory by ENOENT.
 */
export function makeDirectory(directory: string): void {
  const missing: string[] = [];
  for (let folder = directory; !isThere(folder); folder = path.dirname(folder)) {
    missing.push(folder);
  }
  for (const folder of missing.toReversed()) {
    try {
      fs.mkdirSync(folder);
    } catch (error) {
      // Somebody else may have made it meanwhile.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
  for (const folder of missing) syncDirectory(path.dirname(folder));
}

function isThere(folder: string): boolean {
  return fs.statSync(folder, { throwIfNoEntry: false }) !== undefined;
}
