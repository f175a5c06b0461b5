/**
 * Measures what a million messages allocate. Prints a line of JSON a pass: bytes that the heap has
 * grown by, and collections of garbage.
 */
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import v8 from "node:v8";
import type { MessageHandler } from "gapless/bus";
import { ageChannel, channelName, openAs, openFile } from "./bus-channel.ts";

export interface Pass {
  readonly grownBytes: number;
  readonly collections: number;
}

const [, , directory = "", position = "0", sequence = "0"] = process.argv;
const rounds = 1_000_000;
const batch = 4;

const file = openFile(directory);
if (Number(sequence) > 0) ageChannel(file.lanes[0], Number(position), Number(sequence));
const publisher = openAs(directory, "engine").publisher(channelName);
const subscriber = openAs(directory, "ledger").subscriber(channelName);
const sum = new Float64Array(1);

const add: MessageHandler = (memory, offset, length) => {
  sum[0] = (sum[0] ?? 0) + (memory.doubles[offset / 8] ?? 0) + length;
};

function run(): void {
  const { view } = publisher.memory;
  for (let round = 0; round < rounds; round += batch) {
    for (let message = 0; message < batch; message++) {
      const offset = publisher.claim(16 + (round & 63));
      view.setFloat64(offset, round, true);
    }
    publisher.commit();
    subscriber.poll(add, 100);
    subscriber.release();
  }
}

let collections = 0;
new PerformanceObserver((list) => {
  collections += list.getEntries().length;
}).observe({ entryTypes: ["gc"] });

run();
for (let pass = 0; pass < 5; pass++) {
  // Compilers and the observer finish first.
  await pause(50);
  collections = 0;
  const before = v8.getHeapStatistics().used_heap_size;
  run();
  const grownBytes = v8.getHeapStatistics().used_heap_size - before;
  await pause(10);
  console.log(JSON.stringify({ grownBytes, collections } satisfies Pass));
}
if (!(Number(sum[0]) > 0)) throw new Error("nothing was read");
