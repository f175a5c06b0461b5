/**
 * system-calls-worker.ts DIRECTORY OPTIONS [asleep]
 *
 * Appends 100,000 records, a batch at a time, each between two system calls that show in a trace:
 * it looks for files that are not there. Outside of them it waits until the thread that makes
 * segments has the next one ready, as it has where nobody appends as fast as the machine can. With
 * `asleep` it says before each batch that a reader sleeps. It prints how often it has rolled.
 */
import fs from "node:fs";
import path from "node:path";
import { openPublisher, type PublisherOptions } from "gapless/queue";
import { openControl, readersBed, readPosition } from "../../../src/queue/control.ts";
import { segmentFileName } from "../../../src/queue/layout.ts";

const [, , directory = "", json = "", asleep] = process.argv;
const options = JSON.parse(json) as PublisherOptions;
const payload = Buffer.alloc(100, 7);
const batches = 100;
const batchMessages = 1000;
/** Behind its name, a segment is mapped and handed over. */
const handOverMs = 100;
const deadlineMs = performance.now() + 60_000;

const publisher = openPublisher(directory, options);
appendBatch();
const control = openControl(directory, "write");
appendBatch();
let readyNumber = 0;
const first = segmentNow();
for (let batch = 0; batch < batches; batch++) {
  if (options.preallocate !== false) awaitNext();
  if (asleep !== undefined) Atomics.store(control.words, readersBed.asleep, 1);
  fs.existsSync(path.join(directory, "begin"));
  appendBatch();
  fs.existsSync(path.join(directory, "end"));
}
console.log(segmentNow() - first);
await publisher.close();

function appendBatch(): void {
  for (let number = 0; number < batchMessages; number++) {
    if (publisher.append(1, payload) < 0) throw new Error("no limit is met here");
  }
}

/** Does not let the event loop turn: what the thread has made is to be found without it. */
function awaitNext(): void {
  const number = segmentNow() + 1;
  if (number === readyNumber) return;
  while (!fs.existsSync(path.join(directory, segmentFileName(number)))) {
    if (performance.now() > deadlineMs) throw new Error(`segment ${number} is not made`);
  }
  const readyMs = performance.now() + handOverMs;
  while (performance.now() < readyMs);
  readyNumber = number;
}

function segmentNow(): number {
  return readPosition(control)?.segment ?? NaN;
}
