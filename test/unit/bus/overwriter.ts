/** A thread that overwrites a channel until it is told to stop: see observer.test.ts. */
import { workerData } from "node:worker_threads";
import { openTrades } from "../../support/bus-seen.ts";

const { directory, stop, changes } = workerData as {
  directory: string;
  stop: Int32Array;
  changes: Parameters<typeof openTrades>[2];
};
using bus = openTrades(directory, "engine", changes);
const publisher = bus.publisher("trades");
const { memory } = publisher;
for (let number = 1; Atomics.load(stop, 0) === 0; number++) {
  const length = 8 + ((number * 8) % 96);
  const offset = publisher.claim(length);
  if (offset < 0) continue;
  for (let at = 0; at < length; at += 8) memory.doubles[(offset + at) / 8] = number;
  publisher.commit();
}
