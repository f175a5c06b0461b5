/** What the machine is, as far as a channel in its memory is concerned. */
import fs from "node:fs";
import {
  readHugePageMounts,
  readHugePagePools,
  type HugePageMount,
  type HugePagePool,
} from "./huge-pages.ts";
import { mountOf, parseNumbers, readMounts, readSystemFile } from "./system-files.ts";
import { readSharedHugePages } from "./transparent-pages.ts";

export interface MachineFacts {
  /** "6.1.0-18-amd64". */
  readonly kernel: string;
  /** Those online. */
  readonly cpus: readonly number[];
  /** Those that the scheduler gives no thread that did not ask for them (isolcpus). */
  readonly isolatedCpus: readonly number[];
  /** Those without a timer interrupt while one thread runs (nohz_full). */
  readonly ticklessCpus: readonly number[];
  /** Each kind once; none where the host of a virtual machine decides. */
  readonly governors: readonly string[];
  readonly numaNodes: readonly number[];
  readonly hugePagePools: readonly HugePagePool[];
  readonly hugePageMounts: readonly HugePageMount[];
  /**
   * The kernel's word on transparent huge pages of shared memory: always, within_size, advise,
   * never, deny or force; undefined where it has none. Only deny forbids every kind of them.
   */
  readonly sharedHugePages: string | undefined;
  readonly directory: DirectoryFacts;
  /** Of this process: who is to be allowed into what root mounts. */
  readonly groupId: number;
  /** undefined where there is no limit. */
  readonly lockedBytesMax: number | undefined;
  /** Files and devices that memory is swapped out to. */
  readonly swaps: readonly string[];
}

/** The file system that a directory is in. */
export interface DirectoryFacts {
  readonly path: string;
  readonly mountedAt: string;
  readonly type: string;
  readonly options: readonly string[];
  readonly bytesTotal: number;
  readonly bytesFree: number;
}

/** @param directory Where the channels are; it exists. */
export function readMachineFacts(directory: string, root = "/"): MachineFacts {
  const numbers = (file: string): number[] => parseNumbers(readSystemFile(root, file) ?? "");
  const cpus = numbers("sys/devices/system/cpu/online");
  return {
    kernel: readSystemFile(root, "proc/sys/kernel/osrelease") ?? "",
    cpus,
    isolatedCpus: numbers("sys/devices/system/cpu/isolated"),
    ticklessCpus: numbers("sys/devices/system/cpu/nohz_full"),
    governors: readGovernors(cpus, root),
    numaNodes: numbers("sys/devices/system/node/online"),
    hugePagePools: readHugePagePools(root),
    hugePageMounts: readHugePageMounts(root),
    sharedHugePages: readSharedHugePages(root),
    directory: readDirectoryFacts(directory, root),
    groupId: process.getgid?.() ?? 0,
    lockedBytesMax: readLockedBytesMax(root),
    swaps: readSwaps(root),
  };
}

function readGovernors(cpus: readonly number[], root: string): string[] {
  const governors = cpus.flatMap(
    (cpu) =>
      readSystemFile(root, `sys/devices/system/cpu/cpu${cpu}/cpufreq/scaling_governor`) ?? [],
  );
  return [...new Set(governors)];
}

function readDirectoryFacts(directory: string, root: string): DirectoryFacts {
  const real = fs.realpathSync(directory);
  const { blocks, bavail, bsize } = fs.statfsSync(real);
  const mount = mountOf(readMounts(root), real);
  return {
    path: real,
    mountedAt: mount?.directory ?? "/",
    type: mount?.type ?? "unknown",
    options: mount?.options ?? [],
    bytesTotal: blocks * bsize,
    bytesFree: bavail * bsize,
  };
}

function readLockedBytesMax(root: string): number | undefined {
  const limits = readSystemFile(root, "proc/self/limits") ?? "";
  const soft = /^Max locked memory +(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? undefined : Number(soft);
}

function readSwaps(root: string): string[] {
  const [, ...lines] = readSystemFile(root, "proc/swaps")?.split("\n") ?? [];
  return lines.flatMap((line) => line.split(/\s/, 1)).filter((name) => name !== "");
}
