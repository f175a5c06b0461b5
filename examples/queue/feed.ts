/**
 * npm run example examples/queue/feed.ts [DIRECTORY] [missing]
 *
 * Publishes what an exchange says: a delta for each update of its book, and now and then the whole
 * book. Kill it, and start it again: it asks the exchange for what came meanwhile, or, with
 * `missing`, begins with what comes now. Ctrl-C ends it.
 */
import { setTimeout as pause } from "node:timers/promises";
import { openPublisher, openSubscriber } from "gapless/queue";
import {
  deltaBytes,
  encodeDelta,
  encodeSnapshot,
  messageType,
  snapshotBytes,
  updateNow,
  updateOf,
} from "./market-data.ts";

const [, , directory = `${import.meta.dirname}/data`, mode] = process.argv;
const updatesPerSnapshot = 100;
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
process.once("SIGTERM", () => stop.abort());

await using publisher = openPublisher(directory, { segmentBytes: 1024 * 1024 });
let newest = mode === "missing" ? updateNow() : await newestPublished();
console.log(`feed: epoch ${publisher.epoch}, behind update ${newest}`);

while (!stop.signal.aborted) {
  for (const now = updateNow(); newest < now;) publish(++newest);
  await pause(1);
}

function publish(update: number): void {
  const hasSnapshot = update % updatesPerSnapshot === 0;
  const offset = publisher.claim(messageType.delta, deltaBytes);
  if (offset < 0) throw new Error("no limit was set");
  encodeDelta(publisher.memory.view, offset, update);
  publisher.commit();
  if (!hasSnapshot) return;
  const behind = publisher.claim(messageType.snapshot, snapshotBytes);
  encodeSnapshot(publisher.memory.view, behind, update);
  publisher.commit();
}

/** Of this feed before it was killed; of the exchange where it is new. */
async function newestPublished(): Promise<number> {
  await using subscriber = openSubscriber(directory, "feed", { start: "earliest" });
  subscriber.seekSequence(publisher.lastSequence + 1);
  const message = subscriber.previous();
  if (message === undefined) return updateNow();
  return updateOf(new DataView(message.payload.buffer), message.payload.byteOffset);
}
