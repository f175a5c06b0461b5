/**
 * The queues below a directory, and who reads them, as the file system has them now. A directory
 * with a control file is a queue, and nothing is looked for below it.
 */
import fs from "node:fs";
import path from "node:path";
import { controlFileName } from "./control.ts";
import { listReaders, readersFolder } from "./reader-file.ts";

/** A queue, by its directory. */
export interface SeenQueue {
  /** Changes where another queue is in its place. */
  readonly key: string;
  readonly readers: readonly string[];
}

export interface SeenTree {
  readonly queues: ReadonlyMap<string, SeenQueue>;
  /** Directories that could not be looked into, and why. */
  readonly refused: ReadonlyMap<string, string>;
}

/** Whatever changes in one of these directories may concern the tree. */
export interface Watcher {
  /** Called before the directory is looked into, so that nothing comes in between. */
  watch(directory: string, stat: fs.BigIntStats): void;
}

/** Looks at everything below `root`, so many directories deep. */
export function lookAtTree(root: string, depth: number, watcher: Watcher): SeenTree {
  const queues = new Map<string, SeenQueue>();
  const refused = new Map<string, string>();
  const visit = (directory: string, depthLeft: number): void => {
    try {
      const stat = fs.statSync(directory, { throwIfNoEntry: false, bigint: true });
      if (stat?.isDirectory() !== true) return;
      watcher.watch(directory, stat);
      const key = keyOf(path.join(directory, controlFileName));
      if (key !== undefined) {
        queues.set(directory, { key, readers: lookAtReaders(directory, watcher) });
      } else if (depthLeft > 0) {
        for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
          if (entry.isDirectory()) visit(path.join(directory, entry.name), depthLeft - 1);
        }
      }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      // Removed since.
      if (code !== "ENOENT" && code !== "ENOTDIR") refused.set(directory, message);
    }
  };
  visit(root, depth);
  return { queues, refused };
}

function lookAtReaders(directory: string, watcher: Watcher): string[] {
  const folder = path.join(directory, readersFolder);
  const stat = fs.statSync(folder, { throwIfNoEntry: false, bigint: true });
  if (stat === undefined) return [];
  watcher.watch(folder, stat);
  return listReaders(directory);
}

/** An inode is given to another file once its own is gone; not at the same moment. */
function keyOf(filePath: string): string | undefined {
  const stat = fs.statSync(filePath, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? undefined : `${stat.ino}-${stat.birthtimeNs}`;
}
