/** Reads a queue by the call in argv[3], again and again: see hot-path.ts. */
import { openSubscriber, type MessageHandler } from "../../../src/queue/queue.ts";
import { printPasses } from "../../support/hot-path.ts";

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

function rewind(): void {
  subscriber.seekSequence(1);
  subscriber.poll(add, 0);
}

await printPasses(8, count, pass, rewind);
await subscriber.close();
