/**
 * A queue seen from outside: one that is written right now, a copy of one, or what is left of one.
 * Everything is mapped for reading, so whoever looks disturbs nobody.
 */
import fs from "node:fs";
import path from "node:path";
import { describeError, isGaplessError } from "../errors.ts";
import { isMappedBy } from "../memory/mapped-files.ts";
import {
  checkHeader,
  controlFileName,
  hasLiveWriter,
  openControl,
  writerOf,
  type Control,
} from "./control.ts";
import { resolveDirectory } from "./directory.ts";
import { controlBytes, segmentFileName, segmentHeaderBytes, segmentMagic } from "./layout.ts";
import { listSegments } from "./segment.ts";
import { nowhere, type QueueFiles } from "./spot.ts";

export interface ObservedQueue extends QueueFiles, Disposable {
  /** What is wrong with the control file: then of `control` only the identity says anything. */
  readonly controlProblem: string | undefined;
  /** Whether its writer lives, and writes here: not to what this is a copy of. */
  readonly isLive: boolean;
}

/** @throws GaplessError DATA_NOT_YET_AVAILABLE where there is nothing of a queue. */
export function observeQueue(directory: string): ObservedQueue {
  const folder = resolveDirectory(directory);
  const { control, problem } = controlOf(folder);
  return {
    directory: folder,
    control,
    controlProblem: problem,
    isLive: problem === undefined && isWriterHere(control),
    [Symbol.dispose]: () => control.mapping.unmap(),
  };
}

/** The identity that most of the segments have; undefined where none has any. */
export function identityOfSegments(directory: string): bigint | undefined {
  const votes = new Map<bigint, number>();
  for (const number of listSegments(directory)) {
    const identity = readIdentity(path.join(directory, segmentFileName(number)));
    if (identity !== undefined) votes.set(identity, (votes.get(identity) ?? 0) + 1);
  }
  const [most] = [...votes].sort((left, right) => right[1] - left[1]);
  return most?.[0];
}

/** A copy says of its writer what the original does: so it has to have this very file mapped. */
function isWriterHere(control: Control): boolean {
  if (!hasLiveWriter(control)) return false;
  return isMappedBy(writerOf(control).pid, control.filePath) !== false;
}

function controlOf(directory: string): { control: Control; problem: string | undefined } {
  try {
    const control = openControl(directory, "read");
    if (isOfTheSegments(directory, control.identity)) return { control, problem: undefined };
    control.mapping.unmap();
    const problem = `${control.filePath} is damaged: it is of another queue than the segments.`;
    return { control: blankControl(directory), problem };
  } catch (error) {
    if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
    return { control: blankControl(directory), problem: describeError(error) };
  }
}

/** Whether any of the segments has that identity, or none has another one. */
function isOfTheSegments(directory: string, identity: bigint): boolean {
  let isOther = false;
  for (const number of listSegments(directory).reverse()) {
    const found = readIdentity(path.join(directory, segmentFileName(number)));
    if (found === identity) return true;
    isOther ||= found !== undefined;
  }
  return !isOther;
}

/** One that says nothing of any writer. */
function blankControl(directory: string): Control {
  const buffer = new ArrayBuffer(controlBytes);
  return {
    filePath: path.join(directory, controlFileName),
    mapping: { ...nowhere(0).mapping, buffer },
    words: new Int32Array(buffer),
    doubles: new Float64Array(buffer),
    address: 0n,
    identity: identityOfSegments(directory) ?? 0n,
  };
}

/** undefined for what is no segment of this version. */
function readIdentity(filePath: string): bigint | undefined {
  try {
    const fd = fs.openSync(filePath, "r");
    try {
      const header = new Uint8Array(segmentHeaderBytes);
      fs.readSync(fd, header);
      return checkHeader(filePath, header.buffer, segmentMagic);
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    return undefined;
  }
}
