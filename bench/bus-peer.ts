/**
 * The other process of bench/bus.ts: reads every message and sends the sum of what it read, or
 * answers each one.
 */
import { BACK_PRESSURED, openBus, type MessageHandler, type Subscriber } from "gapless/bus";
import { pinThread } from "../src/memory/affinity.ts";
import { channelsFor, otherCore, type PeerTask } from "./bus.ts";

/** Sums one double a cache line, of a payload of one line all eight. Kept in memory, not boxed. */
export function summing(sum: Float64Array): MessageHandler {
  return ({ doubles }, offset, length) => {
    const start = offset >>> 3;
    const end = start + (length >>> 3);
    const step = length > 64 ? 8 : 1;
    let part = 0;
    // In range: the message lies within the ring.
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    for (let index = start; index < end; index += step) part += doubles[index]!;
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    sum[0]! += part;
  };
}

/** Looks until there is something, without hammering the line that the producer writes. */
export function takeAll(
  subscriber: Subscriber,
  handler: MessageHandler,
  messages: number,
  limit: number,
  pauses: number,
): void {
  let empty = 0;
  for (let taken = 0; taken < messages;) {
    const count = subscriber.poll(handler, limit);
    if (count > 0) {
      subscriber.release();
      taken += count;
    } else {
      atomics.pause(pauses);
      leaveOrphaned(++empty);
    }
  }
}

/** A loop that spins hears of nothing: now and then it asks whether its parent is still there. */
function leaveOrphaned(emptyPolls: number): void {
  if (emptyPolls % 2 ** 20 === 0 && process.ppid !== parentPid) process.exit(1);
}

const parentPid = process.ppid;

/** `Atomics.pause` is younger than TypeScript's library. */
const atomics = Atomics as typeof Atomics & { pause(iterations: number): void };

if (process.send !== undefined && process.argv[1] === import.meta.filename) {
  process.once("message", (task: PeerTask) => {
    pinThread(otherCore);
    const sum = new Float64Array(1);
    using bus = openBus(
      { directory: task.directory, channels: channelsFor(task) },
      { service: "peer" },
    );
    const subscriber = bus.subscriber("there");
    process.send?.("ready");
    if (task.kind === "throughput")
      takeAll(subscriber, summing(sum), task.messages, 512, task.pauses);
    else answerAll(task, subscriber, sum);
    process.send?.(sum[0], () => process.exit());
  });

  const answerAll = (task: PeerTask, subscriber: Subscriber, sum: Float64Array): void => {
    using bus = openBus(
      { directory: task.directory, channels: channelsFor(task) },
      { service: "peer" },
    );
    const publisher = bus.publisher("back");
    const { doubles } = publisher.memory;
    const handler = summing(sum);
    for (let round = 0; round < task.messages; round++) {
      for (let empty = 0; subscriber.poll(handler, 1) === 0;) leaveOrphaned(++empty);
      subscriber.release();
      const offset = publisher.claim(task.payloadBytes);
      if (offset === BACK_PRESSURED) throw new Error("a round trip met a full ring");
      doubles[offset >>> 3] = round;
      publisher.commit();
    }
  };
}
