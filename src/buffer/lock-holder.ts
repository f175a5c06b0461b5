/** Who has locked a file, as far as the kernel says it to this process. */
import fs from "node:fs";

/** `1: POSIX  ADVISORY  WRITE 17116 fe:00:9994347 0 EOF` */
const lockLine = /^\d+: POSIX +ADVISORY +WRITE (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) /gm;

/**
 * undefined where nobody has, and where it cannot be told: of another container, on a file system
 * whose numbers are others in the kernel's list, without /proc.
 */
export function lockHolder(filePath: string): number | undefined {
  let locks: string;
  let file: fs.BigIntStats;
  try {
    file = fs.statSync(filePath, { bigint: true });
    locks = fs.readFileSync("/proc/locks", "utf8");
  } catch {
    return undefined;
  }
  const { dev, ino } = file;
  for (const [, pid = "", major = "", minor = "", inode = ""] of locks.matchAll(lockLine)) {
    const isFile = BigInt(inode) === ino && deviceOf(`0x${major}`, `0x${minor}`) === dev;
    // Zero stands for a process that is none of this container's.
    if (isFile && pid !== "0") return Number(pid);
  }
  return undefined;
}

/** As `stat` has it: the lower bits of both numbers in the lower half. */
function deviceOf(majorText: string, minorText: string): bigint {
  const [major, minor] = [BigInt(majorText), BigInt(minorText)];
  const lower = (minor & 0xffn) | ((major & 0xfffn) << 8n);
  return lower | ((minor & ~0xffn) << 12n) | ((major & ~0xfffn) << 32n);
}
