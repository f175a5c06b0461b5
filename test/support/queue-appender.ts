/**
 * A process that appends to the queue in argv[2] until it is killed or fails, and tells on stdout
 * `open EPOCH`, `appended SEQUENCE` of each append that has returned, `durable SEQUENCE` of each
 * flush, and `failed CODE`.
 *
 * argv[3]: a signal that it sends itself, at which step, at which time: `SIGKILL queue.ended 2`.
 * argv[4]: after how long a silence it takes over from a live writer, in milliseconds.
 */
import { subscribe } from "node:diagnostics_channel";
import fs from "node:fs";
import { isGaplessError } from "../../src/errors.ts";
import { openPublisher } from "../../src/queue/queue.ts";
import { stepChannelName } from "../../src/steps.ts";
import { payloadOf } from "./queue-records.ts";

const [, , directory = "", when = "", silentMs] = process.argv;
const [signal = "", step, times] = when.split(" ");
let left = Number(times);

const tell = (line: string): void => void fs.writeSync(1, `${line}\n`);

subscribe(stepChannelName, (reached) => {
  if (reached === step && --left === 0) process.kill(process.pid, signal);
});
const publisher = openPublisher(directory, {
  segmentBytes: 16 * 1024,
  preallocate: false,
  ...(silentMs === undefined ? {} : { takeOverAfterMs: Number(silentMs) }),
});
tell(`open ${publisher.epoch}`);
try {
  for (let round = 1; ; round++) {
    const first = publisher.lastSequence + 1;
    publisher.append(publisher.epoch, payloadOf(first));
    const batch = Array.from({ length: round % 3 }, (_, index) => ({
      type: publisher.epoch,
      payload: payloadOf(first + 1 + index),
    }));
    publisher.appendMany(batch);
    tell(`appended ${publisher.lastSequence}`);
    if (round % 50 === 0) tell(`durable ${(await publisher.flush()).sequence}`);
  }
} catch (error) {
  tell(`failed ${isGaplessError(error) ? error.code : String(error)}`);
}
