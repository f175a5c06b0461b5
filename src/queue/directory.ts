/** The directory that a queue is, or is to be: of whatever a caller has named. */
import fs from "node:fs";
import path from "node:path";
import { storageFailed } from "../errors.ts";
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
