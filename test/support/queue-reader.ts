/**
 * A process that reads the queue of its task (argv[2], JSON) until it is killed or has taken
 * `through`. It tells on stdout `open POSITION`, `taken SEQUENCE` after each poll, `committed
 * SEQUENCE` after each commit, and `failed WHAT` where a message is not the next one, or not what
 * was written.
 */
import fs from "node:fs";
import { openSubscriber, type SubscriberOptions } from "../../src/queue/queue.ts";
import { payloadOf } from "./queue-records.ts";

/** What a reader is to do. */
export interface ReadTask {
  readonly directory: string;
  readonly name: string;
  readonly options: SubscriberOptions;
  readonly waiting: "async" | "blocking";
  /** It commits after so many polls; 0: never. */
  readonly pollsPerCommit: number;
  readonly limit: number;
  readonly through: number;
  /** Payloads are of this size; else of that which `payloadOf` gives by itself. */
  readonly size?: number;
}

/** Longer than any test: who is not woken is stuck. */
const forEverMs = 120_000;

const task = JSON.parse(process.argv[2] ?? "") as ReadTask;
const tell = (line: string): void => void fs.writeSync(1, `${line}\n`);
const subscriber = openSubscriber(task.directory, task.name, task.options);
tell(`open ${subscriber.position}`);
let next = subscriber.position;
let polls = 0;
try {
  while (next <= task.through) {
    const count = subscriber.poll(({ bytes }, offset, length) => {
      const { sequence } = subscriber.envelope;
      const expected = payloadOf(sequence, task.size);
      const found = bytes.subarray(offset, offset + length);
      if (sequence !== next || Buffer.compare(expected, found) !== 0) {
        throw new Error(`${sequence} where ${next} was to come: ${found.join()}`);
      }
      next++;
    }, task.limit);
    if (count === 0) {
      if (task.waiting === "blocking") subscriber.waitBlocking(forEverMs);
      else await subscriber.wait(forEverMs);
      continue;
    }
    tell(`taken ${next - 1}`);
    if (++polls % task.pollsPerCommit !== 0) continue;
    subscriber.commit();
    tell(`committed ${next - 1}`);
  }
} catch (error) {
  tell(`failed ${String(error)}`);
}
await subscriber.close();
