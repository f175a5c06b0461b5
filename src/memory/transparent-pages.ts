/** Huge pages that the kernel makes of ordinary ones: whether it has, and why it has not. */
import fs from "node:fs";
import type { Mapping } from "./mapping.ts";
import { parseChoice, readSystemFile } from "./system-files.ts";

/** On x64 and, with its usual small pages, on arm64. */
export const transparentPageBytes = 2 * 1024 * 1024;

const mebibyte = 1024 * 1024;

/** Why a mapping whose pages are all there is not in huge ones; undefined where it is. */
export function explainSmallPages(mapping: Mapping): string | undefined {
  const { address, buffer, pageBytes } = mapping;
  if (pageBytes >= transparentPageBytes) return undefined;
  const possible = Math.floor(buffer.byteLength / transparentPageBytes) * transparentPageBytes;
  if (possible === 0) {
    return "its file is smaller than a huge page: enlarge the ring, or leave huge_pages out";
  }
  const huge = readHugeBytes(address, fs.readFileSync("/proc/self/smaps", "utf8"));
  if (huge >= possible) return undefined;
  if (huge > 0) {
    return (
      `only ${huge / mebibyte} MB of ${possible / mebibyte} MB are in huge pages, because free ` +
      "memory is in pieces: reserve huge pages at boot (gapless bus doctor says how)"
    );
  }
  return (
    `no hugetlbfs has enough free pages, and ${whyNotTransparent()}: ` +
    "gapless bus doctor says how to set either"
  );
}

/** What of the mapping that begins at `address` is in huge pages, of /proc/PID/smaps. */
export function readHugeBytes(address: bigint, smaps: string): number {
  const lines = smaps.split("\n");
  const start = lines.findIndex((line) => line.startsWith(`${address.toString(16)}-`));
  if (start < 0) return 0;
  const end = lines.findIndex((line, index) => index > start && line.startsWith("VmFlags"));
  return lines
    .slice(start, end < 0 ? undefined : end)
    .map((line) => /^(?:Shmem|File)PmdMapped: +(\d+) kB$/.exec(line)?.[1])
    .reduce((bytes, kibibytes) => bytes + Number(kibibytes ?? 0) * 1024, 0);
}

/** always, within_size, advise, never, deny or force; undefined where the kernel has none. */
export function readSharedHugePages(root: string): string | undefined {
  const file = "sys/kernel/mm/transparent_hugepage/shmem_enabled";
  return parseChoice(readSystemFile(root, file) ?? "");
}

function whyNotTransparent(): string {
  const policy = readSharedHugePages("/");
  if (policy === undefined) return "this kernel has no transparent huge pages in shared memory";
  if (policy === "deny") return "transparent huge pages in shared memory are switched off";
  return (
    "neither a kernel before Linux 6.1 nor a file system on a disk makes transparent ones of an " +
    "ordinary file (the bus directory belongs into /dev/shm)"
  );
}
