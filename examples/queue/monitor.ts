/**
 * npm run example examples/queue/monitor.ts [DIRECTORY]
 *
 * Says who writes to the queue, and how far its readers are, from outside: it is no reader, and
 * maps what it looks at for reading only. Ctrl-C ends it.
 */
import { setTimeout as pause } from "node:timers/promises";
import { inspectQueue, isGaplessError, type QueueSnapshot } from "gapless/queue";

const [, , directory = `${import.meta.dirname}/data`] = process.argv;
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
process.once("SIGTERM", () => stop.abort());
const looksPerReport = 10;

let told = "";
let before: QueueSnapshot | undefined;
for (let look = 0; !stop.signal.aborted; look++) {
  const snapshot = inspect();
  const text = describeWriter(snapshot);
  if (text !== told) console.log(text);
  told = text;
  if (snapshot !== undefined && look % looksPerReport === 0) {
    report(snapshot);
    before = snapshot;
  }
  await pause(100, undefined, { signal: stop.signal }).catch(() => undefined);
}

/** undefined where there is no queue yet. */
function inspect(): QueueSnapshot | undefined {
  try {
    return inspectQueue(directory);
  } catch (error) {
    if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return undefined;
    throw error;
  }
}

function describeWriter(snapshot: QueueSnapshot | undefined): string {
  const writer = snapshot?.writer;
  return writer === undefined ? "no writer yet" : `writer ${writer.state}, epoch ${writer.epoch}`;
}

/** What has come since the last report, and how far each reader is behind. */
function report(now: QueueSnapshot): void {
  const { lastSequence, segments, readers } = now;
  const seconds = (now.atMs - (before?.atMs ?? now.atMs)) / 1000;
  const added = lastSequence - (before?.lastSequence ?? lastSequence);
  const rate = seconds > 0 ? Math.round(added / seconds) : 0;
  const lags = readers.map(({ name, lag, isAlive }) => `${name} ${isAlive ? lag : "away"}`);
  const read = lags.length === 0 ? "nobody" : lags.join(", ");
  console.log(`${lastSequence} messages, ${rate}/s, ${segments.length} segments, read by ${read}`);
}
