/** Where lines go: to a file, to stderr, and to whoever takes them as texts. */
import fs from "node:fs";
import type { LogSink } from "./drain.ts";
import { LogFile } from "./log-file.ts";
import type { LogOutput } from "./options.ts";

const stderrFd = 2;
/** So often a pipe that nobody empties is tried: what does not fit then is given up. */
const stderrTries = 20;
const stderrPauseMs = 5;

export interface OpenLogSink extends LogSink {
  readonly close: () => void;
}

/** @param handOver Given what was written to the file, where there is one. */
export function openLogSink(output: LogOutput, handOver?: (lines: Buffer) => void): OpenLogSink {
  const { file: name, bytesMax, filesMax, stderr } = output;
  const file = name === undefined ? undefined : new LogFile({ file: name, bytesMax, filesMax });
  return {
    room: () => file?.room() ?? Infinity,
    write(lines) {
      // First of all what can fail: nothing may go anywhere twice.
      file?.append(lines);
      if (stderr) writeStderr(lines);
      handOver?.(lines);
    },
    close: () => file?.close(),
  };
}

/** As well as it goes: there is nobody to tell where stderr fails. */
export function writeStderr(lines: Buffer): void {
  let written = 0;
  for (let tries = 0; tries < stderrTries && written < lines.length;) {
    try {
      written += fs.writeSync(stderrFd, lines, written);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
      tries++;
      Atomics.wait(pillow, 0, 0, stderrPauseMs);
    }
  }
}

const pillow = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
