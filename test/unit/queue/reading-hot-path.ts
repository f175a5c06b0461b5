/**
 * Child of reading-hot-path.test.ts: reads a queue again and again by the call in argv[3], and
 * prints a line of JSON a pass: bytes that the heap has grown by, collections of garbage, and how
 * long a message took.
 */
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import v8 from "node:v8";
import { openSubscriber, type MessageHandler } from "../../../src/queue/queue.ts";

/** What one pass over the queue took. */
export interface Pass {
  readonly grownBytes: number;
  readonly collections: number;
  readonly nsPerMessage: number;
}

const [, , directory = "", call = "", verify = ""] = process.argv;
const subscriber = openSubscriber(directory, "reader", { verify: verify === "verify" });
const sum = new Float64Array(2);
const add: MessageHandler = ({ words }, offset, length) => {
  sum[0] = (sum[0] ?? 0) + (words[offset >>> 2] ?? 0) + length;
  sum[1] = subscriber.envelope.sequence;
};

const count = subscriber.lag;

function pass(): void {
  let left = count;
  if (call === "poll") {
    while (left > 0) left -= subscriber.poll(add, 500);
  } else {
    for (; subscriber.peek(); left--) {
      add(subscriber.memory, subscriber.offset, subscriber.length);
      subscriber.take();
    }
  }
  if (left !== 0 || sum[1] !== count) throw new Error(`${left} left, ${sum[1]} of ${count}`);
  // What is empty allocates nothing either.
  for (let look = 0; look < 10_000; look++) subscriber.poll(add, 500);
}

let collections = 0;
new PerformanceObserver((list) => {
  collections += list.getEntries().length;
}).observe({ entryTypes: ["gc"] });

for (let round = 0; round < 8; round++) {
  subscriber.seekSequence(1);
  subscriber.poll(add, 0);
  // Compilers and the observer finish first.
  await pause(30);
  collections = 0;
  const before = v8.getHeapStatistics().used_heap_size;
  const startMs = performance.now();
  pass();
  const nsPerMessage = ((performance.now() - startMs) / count) * 1e6;
  const grownBytes = v8.getHeapStatistics().used_heap_size - before;
  await pause(10);
  console.log(JSON.stringify({ grownBytes, collections, nsPerMessage } satisfies Pass));
}
await subscriber.close();
