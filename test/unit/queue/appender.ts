/**
 * A process for the crash tests: opens the queue in argv[2], says so, appends until it is killed,
 * and reports on stdout the last id of every append that has returned, as `appended ID`, and of
 * every flush, as `durable ID`.
 *
 * argv[3] says when it kills itself: `never`; `STEP N` at the N-th time that it reaches a step;
 * `record N` where the N-th record lacks nothing but its size.
 */
import { subscribe } from "node:diagnostics_channel";
import fs from "node:fs";
import { stepChannelName } from "../../../src/steps.ts";
import { openQueue } from "../../../src/queue/queue.ts";
import { makeMessages } from "./scratch.ts";

const [, , directory = "", when = "never"] = process.argv;
const [moment, countText] = when.split(" ");
let left = Number(countText);

function countDown(): void {
  left -= 1;
  if (left === 0) process.kill(process.pid, "SIGKILL");
}

const queue = await openQueue({ directory, segmentBytes: 64 * 1024 });
subscribe(stepChannelName, (step) => {
  if (step === moment) countDown();
});
if (moment === "record") {
  const { store } = Atomics;
  Atomics.store = ((...args: Parameters<typeof store>) => {
    countDown();
    return store(...args);
  }) as typeof store;
}
fs.writeSync(1, "open 0\n");
for (let round = 1; ; round += 1) {
  queue.append(makeMessages(queue.lastId, (round * 7) % 100));
  fs.writeSync(1, `appended ${queue.lastId}\n`);
  if (round % 10 === 0) {
    await queue.flush();
    fs.writeSync(1, `durable ${queue.durableId}\n`);
  }
}
