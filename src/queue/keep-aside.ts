/** Keeping a file as it is before it is changed. */
import fs from "node:fs";
import path from "node:path";
import { syncDirectory } from "../memory/sync-files.ts";

export const damagedFolder = "damaged";

/** Where a file is going to be kept, within the directory: under a name that nothing has. */
export function placeAside(directory: string, file: string): string {
  for (let count = 1; ; count++) {
    const kept = path.join(damagedFolder, `${file}.${count}`);
    if (!fs.existsSync(path.join(directory, kept))) return kept;
  }
}

/** Copies it there; that survives power loss. */
export function copyAside(directory: string, file: string, kept: string): void {
  makeFolder(directory);
  const copy = path.join(directory, kept);
  const mode = fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE;
  fs.copyFileSync(path.join(directory, file), copy, mode);
  const fd = fs.openSync(copy, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  syncDirectory(path.dirname(copy));
}

/** Moves it there; that survives power loss. */
export function moveAside(directory: string, file: string, kept: string): void {
  makeFolder(directory);
  fs.renameSync(path.join(directory, file), path.join(directory, kept));
  syncDirectory(path.join(directory, damagedFolder));
  syncDirectory(directory);
}

function makeFolder(directory: string): void {
  fs.mkdirSync(path.join(directory, damagedFolder), { recursive: true });
  syncDirectory(directory);
}
