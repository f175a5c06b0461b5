/**
 * system-calls-worker.ts DIRECTORY PREALLOCATE
 *
 * Appends, between two system calls that show in a trace where it begins and ends: looks for files
 * that are not there. It never sleeps and never lets the event loop turn: neither is an append.
 */
import fs from "node:fs";
import path from "node:path";
import { openPublisher } from "gapless/queue";

const [, , directory = "", preallocate] = process.argv;
const segmentBytes = 1024 * 1024;
const payload = Buffer.alloc(100, 7);
const messages = 100_000;
/** The thread that makes segments is given the time that it has in a real day. */
const batch = 1000;
const pauseMs = preallocate === "true" ? 20 : 0;

const publisher = openPublisher(directory, {
  segmentBytes,
  preallocate: preallocate === "true",
});

function append(count: number): void {
  for (let number = 1; number <= count; number++) {
    if (publisher.append(1, payload) < 0) throw new Error("there is no limit here");
    if (number % batch === 0) spin(pauseMs);
  }
}

function spin(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

// So often that everything is compiled that is going to be.
append(messages);
fs.existsSync(path.join(directory, "begin"));
append(messages);
fs.existsSync(path.join(directory, "end"));
await publisher.close();
