/**
 * Whether a process that left its mark in shared memory is still the same one.
 *
 * A process id alone is reused; with the time that the process started (clock ticks since boot)
 * and the boot that this counts from it is unique. Compare within one PID namespace only.
 */
import fs from "node:fs";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks between boot and the start of the process: field 22 of /proc/PID/stat. */
  readonly startTicks: number;
  /** Random 128 bits in hexadecimal, new at each boot. */
  readonly bootId: string;
}

let self: ProcessIdentity | undefined;

export function identifySelf(): ProcessIdentity {
  self ??= {
    pid: process.pid,
    startTicks: readRunning(process.pid) ?? 0,
    bootId: fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim().replaceAll("-", ""),
  };
  return self;
}

/** Reads /proc, some 20 µs: for slow paths. A process that is dead but not yet reaped is dead. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.bootId !== identifySelf().bootId) return false;
  return readRunning(identity.pid) === identity.startTicks;
}

function readRunning(pid: number): number | undefined {
  let stat: string;
  try {
    stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    // Out of descriptors, say: whether it lives is not known, and the living are not to be robbed.
    throw error;
  }
  // The name is in parentheses and may hold anything, parentheses and blanks too.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const startTicks = Number(fields[18]);
  return state === "Z" || state === "X" || !Number.isSafeInteger(startTicks)
    ? undefined
    : startTicks;
}
