/** Which processes have a file mapped to write into it, as far as this one may know. */
import fs from "node:fs";
import path from "node:path";

/** Process ids by device and inode, of a moment ago. */
export type WritersByFile = ReadonlyMap<string, readonly number[]>;

/** Reads the maps of all processes: milliseconds. Other users' are left out. */
export function readWriters(): WritersByFile {
  const writers = new Map<string, number[]>();
  for (const entry of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    for (const file of writtenBy(entry)) {
      const pids = writers.get(file) ?? [];
      if (!pids.includes(Number(entry))) pids.push(Number(entry));
      writers.set(file, pids);
    }
  }
  return writers;
}

/** Processes that have the file mapped to write into it. */
export function writersOf(writers: WritersByFile, filePath: string): readonly number[] {
  const found = fs.statSync(filePath, { throwIfNoEntry: false, bigint: true });
  if (found === undefined) return [];
  const { dev, ino } = found;
  const major = (dev >> 8n) & 0xfffn;
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xfff00n);
  return writers.get(keyOf(major.toString(16), minor.toString(16), ino.toString())) ?? [];
}

/**
 * Whether the process has the file mapped to write into it; undefined where this one may not know.
 * By inode and name: some file systems tell of another device here than they do elsewhere.
 */
export function isMappedBy(pid: number, filePath: string): boolean | undefined {
  const found = fs.statSync(filePath, { throwIfNoEntry: false, bigint: true });
  if (found === undefined) return undefined;
  let text: string;
  try {
    text = fs.readFileSync(`/proc/${pid}/maps`, "utf8");
  } catch {
    return undefined;
  }
  const end = ` ${found.ino} `;
  const name = `/${path.basename(filePath)}`;
  return text
    .split("\n")
    .some((line) => /^\S+ .w.s /.test(line) && line.includes(end) && line.endsWith(name));
}

function writtenBy(pid: string): string[] {
  let text: string;
  try {
    text = fs.readFileSync(`/proc/${pid}/maps`, "latin1");
  } catch {
    // It has ended, or is another user's.
    return [];
  }
  // 7f0e40000000-7f0e40103000 rw-s 00000000 00:1a 4711    /dev/shm/gapless/orders.ring
  const shared = /^\S+ .w.s \S+ ([\da-f]+):([\da-f]+) (\d+) /gm;
  return [...text.matchAll(shared)].map(([, major = "", minor = "", inode = ""]) =>
    keyOf(major, minor, inode),
  );
}

function keyOf(major: string, minor: string, inode: string): string {
  return `${parseInt(major, 16)}:${parseInt(minor, 16)}:${inode}`;
}
