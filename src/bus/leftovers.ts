/** What dead processes leave behind in a folder of channels. */
import fs from "node:fs";
import path from "node:path";
import { describeError } from "../errors.ts";
import { removeMemoryFile } from "../memory/huge-page-file.ts";
import { readWriters, writersOf, type WritersByFile } from "../memory/mapped-files.ts";
import { channelPath } from "./channel-file.ts";
import { inspectChannel, type ChannelSnapshot } from "./inspect.ts";
import { listChannels, observeFile } from "./observed-file.ts";

/** A channel that is being made, by process and thread: see `createMappedFile`. */
const halfMade = /^.+\.ring\.(\d+)-\d+\.tmp$/;

/** A file of a channel, and whether it is of use to anybody. */
export interface Leftover {
  readonly name: string;
  /**
   *   useless   nobody has it, and nothing in it is still to be read
   *   unread    nobody has it, and it holds what a consumer has still to read, or cannot be read
   *   in use    a living process has it
   */
  readonly verdict: "useless" | "unread" | "in use";
  readonly why: string;
}

/** Removes files that were being made by a process that is gone. Returns their names. */
export function removeLeftovers(directory: string): string[] {
  const names = fs.readdirSync(directory).filter((name) => {
    const pid = Number(halfMade.exec(name)?.[1] ?? 0);
    return pid > 0 && !fs.existsSync(`/proc/${pid}`);
  });
  for (const name of names) fs.rmSync(path.join(directory, name), { force: true });
  return names;
}

/** Looks at every file of a channel in `directory`, whole or half made, and changes nothing. */
export function findLeftovers(directory: string): Leftover[] {
  const writers = readWriters();
  const halves = fs.readdirSync(directory).flatMap((name): Leftover[] => {
    const pid = halfMade.exec(name)?.[1];
    if (pid === undefined) return [];
    return fs.existsSync(`/proc/${pid}`)
      ? [{ name, verdict: "in use", why: `process ${pid} is making it` }]
      : [{ name, verdict: "useless", why: `process ${pid} died while it made it` }];
  });
  return [...halves, ...listChannels(directory).map((name) => judge(directory, name, writers))];
}

/**
 * Removes one that is not in use. A service that opens the channel between the look and this would
 * be left with a file that nobody else finds: do it while none is starting.
 */
export function removeLeftover(directory: string, { name }: Leftover): void {
  removeMemoryFile(path.join(directory, name));
}

function judge(directory: string, channel: string, writers: WritersByFile): Leftover {
  const filePath = channelPath(directory, channel);
  const name = path.basename(filePath);
  // Also without an end: it may take one at any time.
  const pids = writersOf(writers, filePath);
  if (pids.length > 0) {
    const why = `${pids.length > 1 ? "processes" : "process"} ${pids.join(", ")} opened it`;
    return { name, verdict: "in use", why };
  }
  let unread: string[];
  try {
    const file = observeFile(filePath);
    unread = describeUnread(inspectChannel(file.description, file.lanes, []));
    file.unmap();
  } catch (error) {
    return { name, verdict: "unread", why: describeError(error) };
  }
  if (unread.length > 0) return { name, verdict: "unread", why: unread.join(", ") };
  return { name, verdict: "useless", why: "nobody has opened it, and everything was read" };
}

function describeUnread({ lanes }: ChannelSnapshot): string[] {
  const lags = new Map<string, number>();
  for (const { name, lag } of lanes.flatMap(({ consumers }) => consumers)) {
    if (lag > 0) lags.set(name, (lags.get(name) ?? 0) + lag);
  }
  return [...lags].map(([name, lag]) => `${name} has still to read ${lag}`);
}
