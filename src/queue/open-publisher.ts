/** Opening a queue to write: who may, and where it goes on. */
import fs from "node:fs";
import path from "node:path";
import { GaplessError, isGaplessError } from "../errors.ts";
import { silenceAt } from "../memory/heartbeat.ts";
import { acquireLock } from "../memory/lock-file.ts";
import { syncDirectory } from "../memory/mapping.ts";
import {
  createControl,
  enterWriter,
  hasLiveWriter,
  isQueue,
  newIdentity,
  openControl,
  type Control,
} from "./control.ts";
import { controlOffset } from "./layout.ts";
import { resolveOptions, type PublisherOptions, type ResolvedOptions } from "./options.ts";
import { Publisher } from "./publisher.ts";
import { fence, recover, type Recovered } from "./recovery.ts";
import { listSegments, removeSegment, removeUnfinishedSegments } from "./segment.ts";
import { storageFailed } from "./storage-errors.ts";
import { noSupply } from "./supply.ts";

export const writerLockName = "writer.lock";

/**
 * Opens a queue for writing, and makes it, with its folders, where there is none. What a crash
 * left behind its end is cut off: see `onCut`. How long that takes does not depend on the size.
 *
 *     await using publisher = openPublisher("/var/lib/exchange/trades");
 *     const sequence = publisher.append(1, bytes);
 *
 * @throws GaplessError CONFIG_INVALID; WRITER_ALREADY_ACTIVE with the process that has it;
 *   STORAGE_CORRUPT where what cannot have been lost in a crash is damaged or missing, and for
 *   another version; STORAGE_FULL
 */
export function openPublisher(directory: string, options: PublisherOptions = {}): Publisher {
  if (typeof directory !== "string" || directory === "") {
    throw new GaplessError("CONFIG_INVALID", "A queue needs its directory: it is empty.");
  }
  const folder = path.resolve(directory);
  const resolved = resolveOptions(folder, options);
  const release = takeDirectory(folder, resolved);
  try {
    return open(folder, resolved, release);
  } catch (error) {
    release();
    throw storageFailed(`opening the queue in ${folder}`, error);
  }
}

function open(directory: string, options: ResolvedOptions, release: () => void): Publisher {
  refuseFirstVersion(directory);
  removeUnfinishedSegments(directory);
  if (!isQueue(directory)) begin(directory);
  const control = openControl(directory, "write");
  try {
    const mayBeFollowed = hasLiveWriter(control);
    let recovered = recover(directory, control);
    // Durable before the first record of it: no two writers have the same.
    const epoch = nextEpoch(control, recovered);
    enterWriter(control, epoch);
    control.mapping.syncBlocking(0, controlOffset.segment);
    if (mayBeFollowed) recovered = fenceOff(directory, control);
    if (recovered.cut !== undefined) options.onCut?.(recovered.cut);
    const supply = noSupply;
    return new Publisher({ directory, control, epoch, recovered, options, supply, release });
  } catch (error) {
    control.mapping.unmap();
    throw error;
  }
}
