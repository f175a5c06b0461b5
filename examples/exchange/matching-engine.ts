/**
 * Matches orders into trades, and keeps both.
 *
 *   orders ─► journal (queue) ─► book ─┬─► output (queue)
 *                                      └─► trades (buffer) ─► channel `trades`
 *
 * The book is a function of the journal. Killed anywhere, the next process takes the newest
 * snapshot, applies the orders since, and gets the same trades with the same ids: those that the
 * output or the buffer lacks are kept there, those that the channel lacks are published, the rest
 * were there before.
 */
import path from "node:path";
import fs from "node:fs";
import { openMsgBuffer, serveBuffers, type MsgBuffer } from "gapless/buffer";
import type { Publisher } from "gapless/bus";
import {
  busSource,
  openJournal,
  publishMessages,
  pump,
  readSnapshot,
  unpackMessages,
  writeSnapshot,
  type Batch,
  type Journal,
  type Message,
  type Sink,
} from "gapless/flow";
import type { Publisher as QueuePublisher } from "gapless/queue";
import type { Service, ServiceContext } from "gapless/supervise";
import { Book, type BookState } from "./book.ts";
import { appendTrades, openOutput } from "./output.ts";

const snapshotInterval = 20_000n;
const journalSegmentBytes = 4 * 2 ** 20;
const batchMax = 2048;

const run: Service = async (context) => {
  const { signal, dataDirectory } = context;
  const snapshots = path.join(dataDirectory, "snapshots");
  fs.mkdirSync(snapshots, { recursive: true });
  await using journal = await openJournal({
    directory: path.join(dataDirectory, "journal"),
    segmentBytes: journalSegmentBytes,
  });
  await using output = openOutput(path.join(dataDirectory, "output"));
  await using trades = await openMsgBuffer({
    component: "trades",
    storage: { dbPath: dataDirectory, cfName: "trades" },
  });
  await using _server = await serveBuffers({
    flows: [trades.archive],
    listen: { path: context.socketPath(context.name) },
  });
  const publisher = context.bus.publisher("trades");
  const subscriber = context.bus.subscriber("orders");

  const stored = readSnapshot(
    snapshots,
    ({ lastId, state }) => {
      const lastTrade = BigInt(parseState(state).lastTrade);
      const isKept = lastTrade <= trades.lastId && lastTrade <= output.lastSequence;
      return isKept && lastId <= journal.durableId;
    },
    (text) => context.log(text),
  );
  const book = new Book(stored === undefined ? undefined : parseState(stored.state));
  await recover(book, journal, { output, trades }, context);
  await publishMissing(publisher, trades, signal);
  context.ready();

  const progress = () => ({
    consumed: journal.durableId,
    produced: book.lastTradeId,
    counts: { gone: BigInt(book.gone), rejected: BigInt(book.rejected) },
  });
  let snapshotDue = (stored?.lastId ?? 0n) + snapshotInterval;

  const engine: Sink = {
    async position() {
      return journal.lastId;
    },
    async apply(batch) {
      journal.append(batch);
      const durable = journal.flush();
      const made = batch.flatMap((order) => book.apply(order));
      await durable;
      // Orders that come again after the journal was lost make trades that are there already.
      await publishMessages(publisher, await keep(made, { output, trades }), signal);
      if (book.lastOrderId >= snapshotDue) {
        snapshotDue = book.lastOrderId + snapshotInterval;
        writeSnapshot(snapshots, { lastId: book.lastOrderId, state: JSON.stringify(book.save()) });
      }
    },
  };
  const source = busSource(subscriber, { batchMax });
  await pump({ source, sink: engine, signal, onProgress: () => context.report(progress()) });
  if (signal.aborted) return;
  publisher.finish();
  await context.done(progress());
};

export default run;

function parseState(state: string): BookState {
  return JSON.parse(state) as BookState;
}

/** What the trades are kept in. */
interface Stores {
  readonly output: QueuePublisher;
  readonly trades: MsgBuffer;
}

/** Keeps what the stores lack, and returns, once it is durable, what the buffer lacked. */
async function keep(made: readonly Message[], { output, trades }: Stores): Promise<Message[]> {
  const known = trades.lastId;
  const missing = made.filter(({ id }) => id > known);
  appendTrades(output, made);
  await Promise.all([output.flush(), trades.append(missing)]);
  return missing;
}

/** Brings the book to the end of the journal, and the stores to the last trade of the book. */
async function recover(
  book: Book,
  journal: Journal,
  stores: Stores,
  context: ServiceContext,
): Promise<void> {
  const from = book.lastOrderId;
  while (book.lastOrderId < journal.durableId) {
    const orders: Batch = await journal.read(book.lastOrderId + 1n, batchMax);
    await keep(
      orders.flatMap((order) => book.apply(order)),
      stores,
    );
  }
  if (from > 0n || book.lastOrderId > 0n) {
    const replayed = (book.lastOrderId - from).toString();
    context.log(`recovered at order ${book.lastOrderId.toString()}: ${replayed} replayed`);
  }
}

/**
 * Publishes what a former process kept and did not publish. Where the channel is new, nothing:
 * its consumers ask the buffer for what they lack.
 */
async function publishMissing(
  publisher: Publisher,
  trades: MsgBuffer,
  signal: AbortSignal,
): Promise<void> {
  const newest = publisher.last();
  let published = newest === undefined ? trades.lastId : (unpackMessages(newest)[0]?.id ?? 0n);
  while (published < trades.lastId) {
    const missing = await trades.archive.read(published + 1n, batchMax);
    await publishMessages(publisher, missing, signal);
    published += BigInt(missing.length);
  }
}
