/**
 * A file of lines that survive power loss: what was found out once and must not be forgotten.
 *
 * A line is appended whole and synced before whoever wrote it goes on. One that a crash cut short
 * was gone on behind by nobody, and stays as a line that says nothing.
 */
import fs from "node:fs";
import path from "node:path";
import { storageFailed } from "../errors.ts";
import { syncDirectory, syncFile } from "./sync-files.ts";

/** @throws GaplessError STORAGE_FULL */
export function appendDurableLine(filePath: string, text: string): void {
  try {
    const fd = fs.openSync(filePath, "a+", 0o600);
    try {
      const line = `${text}\n`;
      // All of it: of a single write, a disk that is almost full takes a part without an error.
      fs.writeFileSync(fd, endsInTheMiddle(fd) ? `\n${line}` : line);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    // Each time: whoever made the file may have been killed before it came to this.
    syncDirectory(path.dirname(filePath));
  } catch (error) {
    throw storageFailed(`recording a line in ${filePath}`, error);
  }
}

/**
 * Makes what can be read durable: whoever wrote it may have been killed before the sync.
 *
 * @throws GaplessError STORAGE_FULL
 */
export function syncDurableLines(filePath: string): void {
  try {
    syncFile(filePath);
    syncDirectory(path.dirname(filePath));
  } catch (error) {
    throw storageFailed(`syncing ${filePath}`, error);
  }
}

/** What `parse` makes of the lines, and how many of them it makes nothing of. */
export function readDurableLines<Entry>(
  filePath: string,
  parse: (document: unknown) => Entry | undefined,
): { readonly entries: readonly Entry[]; readonly unreadable: number } {
  let text: string;
  try {
    text = fs.readFileSync(filePath, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { entries: [], unreadable: 0 };
    throw storageFailed(`reading ${filePath}`, error);
  }
  const lines = text.split("\n").filter((line) => line !== "");
  const entries = lines.map((line) => parse(documentOf(line))).filter((it) => it !== undefined);
  return { entries, unreadable: lines.length - entries.length };
}

function documentOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** Whether a line was cut short before. */
function endsInTheMiddle(fd: number): boolean {
  const { size } = fs.fstatSync(fd);
  if (size === 0) return false;
  const last = Buffer.alloc(1);
  fs.readSync(fd, last, 0, 1, size - 1);
  return last[0] !== "\n".charCodeAt(0);
}
