/**
 * What the kernel says about the machine, in /proc and /sys.
 *
 * `root` is "/" but in tests, which keep a tree of such files elsewhere.
 */
import fs from "node:fs";
import path from "node:path";

/** The text of a file, trimmed; undefined where this kernel, or this user, has none. */
export function readSystemFile(root: string, file: string): string | undefined {
  try {
    return fs.readFileSync(path.join(root, file), "utf8").trim();
  } catch {
    return undefined;
  }
}

/** The names in a directory; none where there is no such directory. */
export function listSystemDirectory(root: string, directory: string): string[] {
  try {
    return fs.readdirSync(path.join(root, directory)).sort();
  } catch {
    return [];
  }
}

/** "0-2,8" as 0, 1, 2, 8. */
export function parseNumbers(list: string): number[] {
  return list
    .split(",")
    .filter((part) => /^\d+(-\d+)?$/.test(part))
    .flatMap((part) => {
      const [first = 0, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** "madvise" of "always [madvise] never". */
export function parseChoice(choices: string): string | undefined {
  return /\[(\w+)\]/.exec(choices)?.[1];
}

export interface Mount {
  readonly directory: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** Everything that is mounted; of two in the same place the later one is what is seen. */
export function readMounts(root: string): Mount[] {
  const lines = readSystemFile(root, "proc/mounts")?.split("\n") ?? [];
  return lines.flatMap((line) => {
    const [, directory, type, options] = line.split(" ");
    if (directory === undefined || type === undefined || options === undefined) return [];
    return [{ directory: unescape(directory), type, options: options.split(",") }];
  });
}

/** The value of a mount option: "2M" for pagesize. */
export function mountOption(mount: Mount, name: string): string | undefined {
  const option = mount.options.find((one) => one.startsWith(`${name}=`));
  return option?.slice(name.length + 1);
}

/** The mount that `directory`, an absolute path without links, is in. */
export function mountOf(mounts: readonly Mount[], directory: string): Mount | undefined {
  return mounts
    .filter((mount) => {
      const inside = path.relative(mount.directory, directory);
      return inside !== ".." && !inside.startsWith("../");
    })
    .reduce<Mount | undefined>((best, mount) => {
      const isNearer = best === undefined || mount.directory.length >= best.directory.length;
      return isNearer ? mount : best;
    }, undefined);
}

/** Blanks and the like are written as \040. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(parseInt(octal, 8)),
  );
}
