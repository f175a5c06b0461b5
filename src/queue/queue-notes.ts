/** Whether what the control file and the files of the readers say of the records is so. */
import fs from "node:fs";
import path from "node:path";
import { controlFileName, epochProblem, isOfThisBoot, readPosition } from "./control.ts";
import { epochOf, nextSequence } from "./finding.ts";
import { rangeOf, reasonOf } from "./flaw.ts";
import { controlOffset } from "./layout.ts";
import { lossesFileName, readLosses } from "./loss-ledger.ts";
import type { ObservedQueue } from "./observed-queue.ts";
import { hasTornSlot, listReaders, lookAtReader, readerFileOf } from "./reader-file.ts";
import type { Check, Progress } from "./segment-check.ts";

export function checkNotes(queue: ObservedQueue, check: Check, progress: Progress): void {
  if (queue.controlProblem === undefined) checkControl(queue, check, progress);
  for (const name of listReaders(queue.directory)) checkReader(queue, check, progress, name);
  const { unreadable } = readLosses(queue.directory);
  if (unreadable === 0) return;
  const what = `${unreadable} of its lines cannot be read: cut short by a crash, or damaged`;
  check.report({ severity: "note", file: lossesFileName, what });
}

function checkControl(
  { control, isLive }: ObservedQueue,
  { report, position }: Check,
  progress: Progress,
): void {
  const file = controlFileName;
  const durable = control.doubles[controlOffset.durable / 8] ?? 0;
  const last = (progress.sequence ?? 1) - 1;
  const epoch = (control.words[controlOffset.epoch / 4] ?? 0) >>> 0;
  const problem = epochProblem(control);
  const ofEpoch = { file, offset: controlOffset.epoch, repair: "control" } as const;
  if (problem !== undefined) {
    report({ severity: "damage", ...ofEpoch, what: problem });
  } else if (epoch < progress.epoch) {
    const what = `epoch=${epoch}, and a record is of epoch=${progress.epoch}`;
    report({ severity: "flaw", ...ofEpoch, what });
  }
  const isBeyond = !isLive && durable > last;
  if (isBeyond || !(durable >= 0)) {
    const what = `sequence=${durable} was durable, and the log ends with ${last}`;
    const offset = controlOffset.durable;
    const lost = Number.isSafeInteger(durable) ? rangeOf(last + 1, durable) : undefined;
    const found = { severity: "damage", file, offset, what, repair: "control" } as const;
    report({ ...found, ...(lost && { lost }) });
  }
  const isInterrupted = isOfThisBoot(control) && readPosition(control) === undefined;
  if (isInterrupted && position === undefined && last > 0 && !isLive) {
    const what = "its writer was killed as it noted its position. The next one walks to the end";
    report({ severity: "note", file, offset: controlOffset.segment, what });
  }
}

function checkReader(
  queue: ObservedQueue,
  { report, isSettled }: Check,
  progress: Progress,
  name: string,
): void {
  const { directory, control } = queue;
  const filePath = readerFileOf(directory, name);
  const file = path.relative(directory, filePath);
  try {
    const { committed, isAlive } = lookAtReader(directory, name, control.identity);
    // One that lives can have been interrupted between two stores, and be there for long.
    if (!isAlive && hasTornSlot(directory, name, control.identity)) {
      const what =
        "one of its two slots does not hold: a commit was cut short by a crash, or it is " +
        "damaged. The other one counts; what came behind it is delivered again";
      report({ severity: "note", file, what });
    }
    if (committed === undefined) return;
    const { sequence, epoch } = committed;
    const last = (progress.sequence ?? 1) - 1;
    const found = epochOf(queue, sequence);
    if (sequence > Math.max(last, queue.isLive ? newestSequence(queue) : 0)) {
      const what = `it has committed sequence=${sequence}, and the log ends with ${last}`;
      // A writer has come since: then the reader is told that it was rewound.
      const isTold = epoch !== 0 && epoch < (control.words[controlOffset.epoch / 4] ?? 0) >>> 0;
      report({ severity: isSettled && !isTold ? "damage" : "note", file, what });
    } else if (epoch !== 0 && found !== 0 && found !== epoch) {
      const what =
        `it has committed sequence=${sequence} of epoch=${epoch}, and the one there is of ` +
        `epoch=${found}: a power loss has taken the other. With start=resume-strict it is told`;
      report({ severity: "note", file, what });
    }
  } catch (error) {
    // Removed in between.
    if (!fs.existsSync(filePath)) return;
    report({ severity: "damage", file, what: reasonOf(error, directory) });
  }
}

function newestSequence(queue: ObservedQueue): number {
  return nextSequence(queue) - 1;
}
