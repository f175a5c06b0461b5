/**
 * Brings orders in: recorded ones, or generated ones.
 *
 * Order n of the input has id n, so wherever this process is killed, the next one goes on after
 * the newest order on the channel. Where the channel is new and the journal behind it is not, the
 * engine drops what it has: the ids are the same.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { publishMessages, unpackMessages, type Message } from "gapless/flow";
import type { Service, ServiceContext } from "gapless/supervise";
import { generateOrders } from "./generator.ts";
import { readOrderLog, type LogLine } from "./order-log.ts";
import { encodeOrder } from "./order.ts";

const batchMax = 256;
const malformedShown = 1000;

const run: Service = async (context) => {
  const publisher = context.bus.publisher("orders");
  context.ready();
  const newest = publisher.last();
  const resumeAfter = newest === undefined ? 0n : (unpackMessages(newest)[0]?.id ?? 0n);
  const total = BigInt(await countOrders(context));
  const pace = pacer(context, Number(total));

  let lastId = 0n;
  let malformed = 0n;
  let other = 0n;
  let lineNumber = 0;
  let batch: Message[] = [];
  const progress = () => ({
    // A drain may come before the input has been read to where the last process was.
    produced: lastId > resumeAfter ? lastId : resumeAfter,
    total,
    counts: { malformed, other },
  });
  const publish = async (): Promise<void> => {
    await publishMessages(publisher, batch, context.signal);
    batch = [];
    context.report(progress());
    await pace(Number(lastId));
  };

  for await (const line of inputOf(context)) {
    if (context.drain.aborted || context.signal.aborted) break;
    lineNumber++;
    if (line === null) {
      other++;
    } else if ("malformed" in line) {
      malformed++;
      if (lastId >= resumeAfter && malformed <= malformedShown) {
        context.log(`line ${lineNumber} is malformed and was left out: ${line.malformed}`);
      }
    } else {
      const prevId = lastId++;
      if (lastId <= resumeAfter) continue;
      const { order, timestampNs } = line;
      batch.push({ id: lastId, prevId, timestampNs, bytes: encodeOrder(order) });
      if (batch.length === batchMax) await publish();
    }
  }
  if (context.signal.aborted) return;
  await publish();
  publisher.finish();
  if (malformed > malformedShown) context.log(`${malformed.toString()} lines are malformed in all`);
  await context.done(progress());
};

export default run;

function inputOf({ options }: ServiceContext): AsyncIterable<LogLine> | Iterable<LogLine> {
  const file = String(options["orders"]);
  return file === ""
    ? generateOrders(Number(options["count"]), Number(options["seed"]))
    : readOrderLog(file);
}

/** How many there will be: for the display, and to spread them over the time given. */
async function countOrders(context: ServiceContext): Promise<number> {
  if (context.options["orders"] === "") return Number(context.options["count"]);
  let count = 0;
  for await (const line of inputOf(context)) if (line !== null && "order" in line) count++;
  return count;
}

/** Waits until the n-th of `total` orders is due, where the input is to take a given time. */
function pacer(context: ServiceContext, total: number): (done: number) => Promise<void> {
  const { paceMs, startedAtMs } = context;
  const signal = AbortSignal.any([context.signal, context.drain]);
  return async (done) => {
    const aheadMs = startedAtMs + (paceMs * done) / total - Date.now();
    if (paceMs === 0 || aheadMs <= 1) return;
    // An abort ends the wait; what follows looks at the signals.
    await sleep(aheadMs, undefined, { signal }).catch(() => undefined);
  };
}
