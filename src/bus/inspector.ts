/** The channels of a folder, looked at from outside: no end is taken and nothing is written. */
import fs from "node:fs";
import { describeError } from "../errors.ts";
import { channelPath } from "./channel-file.ts";
import { inspectChannel, snapshotOf, type BusSnapshot, type UnreadableFile } from "./inspect.ts";
import { listChannels, observeFile, type ObservedFile } from "./observed-file.ts";

export interface BusInspector extends Disposable {
  /** All channels that there are now: those that came since, and not those that went. */
  inspect(): BusSnapshot;
  /** Unmaps the channels. Idempotent. */
  close(): void;
}

interface KnownFile {
  readonly file: ObservedFile;
  /** Device and inode: a file that was made anew is another one. */
  readonly identity: string;
}

/**
 * Looks at the channels in `directory`, as `gapless bus stat` does. Their configuration is not
 * needed: a channel's file tells what it is.
 *
 *     using inspector = openInspector("/dev/shm/gapless");
 *     const { status } = judgeHealth(inspector.inspect());
 */
export function openInspector(directory: string): BusInspector {
  const known = new Map<string, KnownFile>();
  const forget = (name: string): void => {
    known.get(name)?.file.unmap();
    known.delete(name);
  };
  const look = (name: string): ObservedFile => {
    const filePath = channelPath(directory, name);
    const identity = identityOf(filePath);
    const before = known.get(name);
    if (before?.identity === identity) return before.file;
    forget(name);
    const file = observeFile(filePath);
    known.set(name, { file, identity });
    return file;
  };
  const close = (): void => {
    for (const name of [...known.keys()]) forget(name);
  };

  return {
    inspect() {
      const names = fs.existsSync(directory) ? listChannels(directory) : [];
      for (const name of [...known.keys()].filter((one) => !names.includes(one))) forget(name);
      const unreadable: UnreadableFile[] = [];
      const channels = names.flatMap((name) => {
        try {
          const { description, lanes } = look(name);
          return [inspectChannel(description, lanes, [])];
        } catch (error) {
          const isGone =
            fs.lstatSync(channelPath(directory, name), { throwIfNoEntry: false }) === undefined;
          if (isGone) return [];
          unreadable.push({ name, reason: describeError(error) });
          return [];
        }
      });
      return snapshotOf(channels, undefined, unreadable);
    },
    close,
    [Symbol.dispose]: close,
  };
}

function identityOf(filePath: string): string {
  // A link whose file is gone has no identity: opening it says so.
  const found = fs.statSync(filePath, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? "" : `${found.dev}:${found.ino}`;
}
