/** How a reader waits for what comes next. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { announceSleep, readWakes, sleepBlocking, sleepOn, wake } from "../memory/sleep.ts";
import { readersBed, type Control } from "./control.ts";
import type { ReaderFile } from "./reader-file.ts";
import type { Reading } from "./reading.ts";
import type { WaitStrategy } from "./subscriber-options.ts";

export interface WaitOptions {
  readonly wait: WaitStrategy;
  readonly spinMicros: number;
}

/** A sleeper says so often that it is well, and looks for itself. */
export const sleepIntervalMs = 250;

/** `Atomics.pause` is younger than TypeScript's library. */
const atomics = Atomics as typeof Atomics & { pause(iterations?: number): void };

export class Waiting {
  private readonly control: Control;
  private readonly reading: Reading;
  private readonly file: ReaderFile;
  private readonly options: WaitOptions;

  constructor(control: Control, reading: Reading, file: ReaderFile, options: WaitOptions) {
    this.control = control;
    this.reading = reading;
    this.file = file;
    this.options = options;
  }

  /** As `Subscriber.wait`. */
  async wait(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const { control, reading } = this;
    if (this.spins()) return;
    if (this.options.wait === "busy-spin") {
      while (performance.now() < deadline && signal?.aborted !== true && this.isIdle()) {
        await nextTurn();
      }
      return;
    }
    const wakeUp = (): void => wake(control, readersBed);
    signal?.addEventListener("abort", wakeUp, { once: true });
    try {
      while (reading.isOpen && signal?.aborted !== true) {
        const leftMs = Math.min(deadline - performance.now(), sleepIntervalMs);
        const wakes = readWakes(control, readersBed);
        if (leftMs <= 0 || !this.mayFallAsleep()) break;
        await sleepOn(control, readersBed, wakes, leftMs);
      }
    } finally {
      signal?.removeEventListener("abort", wakeUp);
    }
  }

  /** As `Subscriber.waitBlocking`. */
  block(timeoutMs: number): void {
    const deadline = performance.now() + timeoutMs;
    const { control } = this;
    if (this.spins()) return;
    if (this.options.wait === "busy-spin") {
      while (this.isIdle() && performance.now() < deadline) atomics.pause();
      return;
    }
    while (true) {
      const leftMs = Math.min(deadline - performance.now(), sleepIntervalMs);
      const wakes = readWakes(control, readersBed);
      if (leftMs <= 0 || !this.mayFallAsleep()) return;
      sleepBlocking(control, readersBed, wakes, leftMs);
    }
  }

  /** False where there is a reason not to sleep. The count of wake-ups was read before. */
  mayFallAsleep(): boolean {
    this.file.noteSeen();
    // SYNC reader-asleep: the flag, then another look; the writer completes a record, then looks
    // at the flag.
    announceSleep(this.control, readersBed);
    return this.reading.isEmpty;
  }

  private isIdle(): boolean {
    if (!this.reading.isOpen) return false;
    this.file.noteSteps(1);
    return !this.reading.mayHaveMore;
  }

  /** Looks for a while, where the strategy says so. True where there was something. */
  private spins(): boolean {
    if (this.options.wait !== "spin-then-park") return false;
    const end = performance.now() + this.options.spinMicros / 1000;
    do {
      for (let look = 0; look < 32; look++) {
        if (this.reading.mayHaveMore) return true;
        atomics.pause(16);
      }
    } while (performance.now() < end);
    return false;
  }
}
