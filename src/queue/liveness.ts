/**
 * Whether somebody writes to a queue, as whoever reads it can tell. It says what is, and does
 * nothing about it: to stop trading, or to take the queue over, is up to who asks.
 */
import fs from "node:fs";
import path from "node:path";
import { GaplessError, isGaplessError } from "../errors.ts";
import { silenceAt } from "../memory/heartbeat.ts";
import { readHolder } from "../memory/lock-file.ts";
import { isAlive } from "../memory/process-identity.ts";
import { isOfThisBoot, readPosition, writerLockName, writerOf, type Control } from "./control.ts";
import { controlOffset, segmentFileName } from "./layout.ts";

export interface WriterStatus {
  /**
   *   alive    it was seen at work within the time
   *   silent   its process is there, and was not seen for longer: stopped, or its thread blocked
   *   dead     its process has ended, and has not closed the queue
   *   closed   it has closed the queue, or there has never been one
   */
  readonly state: "alive" | "silent" | "dead" | "closed";
  /** Of the process that writes, or that wrote last; 0 where there has been none. */
  readonly pid: number;
  /** Counts the writers. */
  readonly epoch: number;
  /** Since it was seen at work; Infinity where that was not in this boot. */
  readonly silentMs: number;
  /** The newest one that it has appended. */
  readonly sequence: number;
  /** Whether it has the lock of the queue, and lives. */
  readonly lock: boolean;
}

/**
 * Why a reader is not to expect more for now. Of several reasons the first of these is told.
 *
 *   segment-missing    the file that is written is not there any more: the queue was removed
 *   writer-lock-lost   nobody writes: the writer has closed the queue, has died, or was replaced by
 *                      one that is not there yet
 *   heartbeat-stale    the writer is there, and was not seen at work for too long
 */
export type DisconnectReason = "writer-lock-lost" | "heartbeat-stale" | "segment-missing";

/** Reads /proc and the lock file, some 50 µs: not for hot paths. */
export function writerStatus(control: Control, directory: string, ttlMs: number): WriterStatus {
  checkTtl(ttlMs);
  const { words, doubles } = control;
  const writer = writerOf(control);
  const epoch = Atomics.load(words, controlOffset.epoch / 4) >>> 0;
  const isOpen = epoch > 0 && Atomics.load(words, controlOffset.open / 4) !== 0;
  const isThere = isOpen && isAlive(writer);
  const silentMs = isOfThisBoot(control) ? silenceAt(words, controlOffset.heartbeat / 4) : Infinity;
  const sequence = doubles[controlOffset.sequence / 8] ?? 0;
  const lock = isThere && hasLock(directory, writer.pid, writer.startTicks);
  const live = silentMs <= ttlMs ? "alive" : "silent";
  const state = isThere ? live : isOpen ? "dead" : "closed";
  return { state, pid: writer.pid, epoch, silentMs, sequence, lock };
}

/** Why a reader is not to expect more for now; undefined where it may. As `writerStatus`. */
export function detectDisconnect(
  control: Control,
  directory: string,
  ttlMs: number,
): DisconnectReason | undefined {
  const { state, lock } = writerStatus(control, directory, ttlMs);
  if (isSegmentMissing(control, directory)) return "segment-missing";
  if (!lock) return "writer-lock-lost";
  return state === "alive" ? undefined : "heartbeat-stale";
}

/** Whether the file is gone that is written. Of a queue without messages there is none yet. */
function isSegmentMissing(control: Control, directory: string): boolean {
  const number = readPosition(control)?.segment ?? 0;
  if (number === 0) return false;
  const file = path.join(directory, segmentFileName(number));
  return fs.statSync(file, { throwIfNoEntry: false }) === undefined;
}

function hasLock(directory: string, pid: number, startTicks: number): boolean {
  try {
    const holder = readHolder(path.join(directory, writerLockName));
    return holder?.pid === pid && holder.startTicks === startTicks;
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return false;
    throw error;
  }
}

/** @throws GaplessError CONFIG_INVALID */
function checkTtl(ttlMs: number): void {
  if (typeof ttlMs === "number" && ttlMs >= 0) return;
  throw new GaplessError("CONFIG_INVALID", `ttlMs=${ttlMs}: expected milliseconds, 0 or more.`);
}
