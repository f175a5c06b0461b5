/** What the kernel has of a file or directory, made to survive power loss. */
import fs from "node:fs";

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
