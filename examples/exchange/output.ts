/**
 * The engine's output, journalled: a queue whose record n is trade n.
 *
 * So its newest sequence says which trades it has. An engine that was killed makes some of them
 * again, the same ones, and only those that are missing are appended.
 */
import type { Message } from "gapless/flow";
import { openPublisher, openSubscriber, type Publisher } from "gapless/queue";

const tradeType = 1;
const segmentBytes = 4 * 2 ** 20;
/** What its auditor is called among its readers. */
const auditor = "audit";

export function openOutput(directory: string): Publisher {
  return openPublisher(directory, { segmentBytes });
}

/** Appends those of the trades that are not there yet. They follow each other, from 1 on. */
export function appendTrades(output: Publisher, trades: readonly Message[]): void {
  const known = BigInt(output.lastSequence);
  const entries = trades
    .filter(({ id }) => id > known)
    .map(({ timestampNs, bytes }) => ({ type: tradeType, payload: bytes, timestampNs }));
  const sequence = output.appendMany(entries);
  const newest = trades.at(-1)?.id ?? known;
  if (newest > known && newest !== BigInt(sequence)) {
    throw new Error(`trade ${newest.toString()} cannot be record ${sequence} of the output`);
  }
}

/** All trades of the queue, from the first on. */
export async function* readTrades(directory: string): AsyncGenerator<Message, undefined> {
  await using subscriber = openSubscriber(directory, auditor, { start: "earliest" });
  for (;;) {
    const record = subscriber.next();
    if (record === undefined) return undefined;
    const id = BigInt(record.sequence);
    const { timestampNs, payload } = record;
    yield { id, prevId: id - 1n, timestampNs, bytes: payload };
  }
}
