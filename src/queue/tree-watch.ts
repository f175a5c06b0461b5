/**
 * Notices by inotify that a tree of queues may have changed. It only makes the next look come
 * sooner: where the system has no more watches to give, or none at all, looks come at intervals.
 */
import fs from "node:fs";
import type { Watcher } from "./queue-tree.ts";

interface Watch {
  readonly key: string;
  readonly watcher: fs.FSWatcher;
}

export class TreeWatch implements Watcher {
  private readonly onChange: () => void;
  private readonly watches = new Map<string, Watch>();
  private readonly visited = new Set<string>();

  constructor(onChange: () => void) {
    this.onChange = onChange;
  }

  watch(directory: string, stat: fs.BigIntStats): void {
    this.visited.add(directory);
    const key = `${stat.dev}-${stat.ino}-${stat.birthtimeNs}`;
    if (this.watches.get(directory)?.key === key) return;
    this.forget(directory);
    try {
      const watcher = fs.watch(directory, { persistent: false }, (_, name) => {
        if (name === null || !isSegmentOrTemporary(name)) this.onChange();
      });
      watcher.on("error", () => this.forget(directory));
      this.watches.set(directory, { key, watcher });
    } catch {
      // No watches left: it is looked at in the next round all the same.
    }
  }

  /** To be called behind each look: what was not come to is not there any more. */
  forgetOthers(): void {
    for (const directory of this.watches.keys()) {
      if (!this.visited.has(directory)) this.forget(directory);
    }
    this.visited.clear();
  }

  close(): void {
    for (const directory of this.watches.keys()) this.forget(directory);
  }

  private forget(directory: string): void {
    this.watches.get(directory)?.watcher.close();
    this.watches.delete(directory);
  }
}

/** What comes and goes in a queue all the time, and tells nothing. */
function isSegmentOrTemporary(name: string): boolean {
  return /\.(segment|tmp|lock)$/.test(name) || name === "losses.jsonl";
}
