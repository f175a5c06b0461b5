/** The huge pages that the system has set aside, and where files can be made of them. */
import fs from "node:fs";
import { wholePages } from "./mapping.ts";
import { listSystemDirectory, mountOption, readMounts, readSystemFile } from "./system-files.ts";

const mebibyte = 1024 * 1024;

/** All huge pages of one size. */
export interface HugePagePool {
  readonly pageBytes: number;
  readonly pagesTotal: number;
  /** Those that nobody has, or has been promised, and those that may still be made. */
  readonly pagesFree: number;
}

/** A mounted hugetlbfs that this process may create files in. */
export interface HugePageMount {
  readonly directory: string;
  readonly pageBytes: number;
}

export function readHugePagePools(root = "/"): HugePagePool[] {
  const pools = "sys/kernel/mm/hugepages";
  return listSystemDirectory(root, pools).flatMap((name) => {
    const kibibytes = /^hugepages-(\d+)kB$/.exec(name)?.[1];
    if (kibibytes === undefined) return [];
    const read = (file: string): number =>
      Number(readSystemFile(root, `${pools}/${name}/${file}`) ?? 0);
    const surplus = Math.max(0, read("nr_overcommit_hugepages") - read("surplus_hugepages"));
    return [
      {
        pageBytes: Number(kibibytes) * 1024,
        pagesTotal: read("nr_hugepages"),
        pagesFree: read("free_hugepages") - read("resv_hugepages") + surplus,
      },
    ];
  });
}

export function readHugePageMounts(root = "/"): HugePageMount[] {
  return readMounts(root)
    .filter(({ type }) => type === "hugetlbfs")
    .flatMap((mount) => {
      const pageBytes = parsePageBytes(mountOption(mount, "pagesize"));
      const { directory } = mount;
      return pageBytes === undefined || !mayCreateIn(directory) ? [] : [{ directory, pageBytes }];
    });
}

/**
 * Where a file of `bytes` bytes can be made of huge pages, the largest that do not waste more than
 * an eighth of it, or 2 MB; undefined where there is no such place with enough free pages.
 */
export function findHugePageMount(bytes: number, root = "/"): HugePageMount | undefined {
  const pools = readHugePagePools(root);
  return readHugePageMounts(root)
    .filter(({ directory, pageBytes }) => {
      const stored = wholePages(bytes, pageBytes);
      const pagesFree = pools.find((pool) => pool.pageBytes === pageBytes)?.pagesFree ?? 0;
      return (
        stored - bytes <= Math.max(bytes / 8, 2 * mebibyte) &&
        stored <= Math.min(pagesFree * pageBytes, allowedBytes(directory))
      );
    })
    .sort((left, right) => right.pageBytes - left.pageBytes)[0];
}

/** "2M", "1024M", "16G". */
function parsePageBytes(text: string | undefined): number | undefined {
  const match = /^(\d+)([KMG])$/.exec(text ?? "");
  if (match === null) return undefined;
  return Number(match[1]) * 1024 ** ("KMG".indexOf(match[2] ?? "") + 1);
}

function mayCreateIn(directory: string): boolean {
  try {
    fs.accessSync(directory, fs.constants.W_OK | fs.constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What is left of the mount's own limit; one that has none says that it has no blocks at all. */
function allowedBytes(directory: string): number {
  const { blocks, bavail, bsize } = fs.statfsSync(directory);
  return blocks === 0 ? Infinity : bavail * bsize;
}
