/** Looking again and again, until Ctrl-C. */
import { setInterval as ticks } from "node:timers/promises";
import { untilInterrupted } from "./interrupt.ts";

const intervalMs = 1000;

/** Calls `look` now and each second. */
export async function watch(look: () => void): Promise<void> {
  using interrupt = untilInterrupted();
  look();
  try {
    for await (const _tick of ticks(intervalMs, undefined, { signal: interrupt.signal })) look();
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  }
}
