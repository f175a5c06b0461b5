/** The directory that a queue is, or is to be: of whatever a caller has named. */
import fs from "node:fs";
import path from "node:path";
import { storageFailed } from "../errors.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { wrong } from "../arguments.ts";

/**
 * The directory by its full path, be it there or not.
 *
 * @throws GaplessError CONFIG_INVALID for what is no path, or the path of something else
 */
export function resolveDirectory(directory: string): string {
  if (typeof directory !== "string" || directory === "") {
    throw wrong("directory", directory, "the path of a directory");
  }
  const folder = path.resolve(directory);
  if (isAnotherThing(folder)) throw wrong("directory", folder, "a directory, found a file there");
  return folder;
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

function isAnotherThing(folder: string): boolean {
  try {
    return !fs.statSync(folder).isDirectory();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return false;
    if (code === "ENOTDIR") return true;
    throw storageFailed(`looking at ${folder}`, error);
  }
}
