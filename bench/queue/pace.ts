/** Waiting for the moment that a message is due. */
import { bootNs } from "../../src/clock.ts";

/** What is further away than this is slept for. */
const napNs = 200_000;
const wakeUpNs = 100_000;

const pillow = new Int32Array(new SharedArrayBuffer(4));

/** Returns at the moment, or at once where it is over. */
export function waitUntil(dueNs: number): void {
  for (let leftNs = dueNs - bootNs(); leftNs > 0; leftNs = dueNs - bootNs()) {
    if (leftNs > napNs) Atomics.wait(pillow, 0, 0, (leftNs - wakeUpNs) / 1e6);
  }
}
