/** Taking a reader away that is not to come back. */
import fs from "node:fs";
import path from "node:path";
import { GaplessError, storageFailed } from "../errors.ts";
import { acquireLock } from "../memory/lock-file.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { resolveDirectory } from "./directory.ts";
import { checkReaderName, readerFileOf, readerLockOf } from "./reader-file.ts";

/**
 * Removes a reader: its position is gone, and retention does not wait for it any more. Whoever
 * reads under its name next is a new one.
 *
 * @throws GaplessError ALREADY_OPEN with the process that reads; CONFIG_INVALID where there is no
 *   such reader
 */
export function removeReader(directory: string, name: string): void {
  checkReaderName(name);
  const folder = resolveDirectory(directory);
  const filePath = readerFileOf(folder, name);
  if (!fs.existsSync(filePath)) {
    throw new GaplessError("CONFIG_INVALID", `There is no reader ${name} in ${folder}.`);
  }
  try {
    const release = acquireLock(readerLockOf(folder, name));
    try {
      fs.rmSync(filePath, { force: true });
      syncDirectory(path.dirname(filePath));
    } finally {
      release();
    }
  } catch (error) {
    throw storageFailed(`removing ${filePath}`, error);
  }
}
