/**
 * npm run example examples/buffer/market.ts [DIRECTORY]
 *
 * Publishes some 10,000 trades a second, until Ctrl-C. Start both leaders first: what nobody was
 * there for is in no buffer.
 */
import { setTimeout as pause } from "node:timers/promises";
import { encodeTrade, publishMessages, unpackMessages, type Message } from "gapless/flow";
import { defaultDirectory, openChannels } from "./place.ts";

const [, , directory = defaultDirectory] = process.argv;
const batchTrades = 100;
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
process.once("SIGTERM", () => stop.abort());

using bus = openChannels(directory, "market");
const trades = bus.publisher("trades");
const newest = trades.last();
let id = newest === undefined ? 0n : (unpackMessages(newest).at(-1)?.id ?? 0n);
console.log(`market: behind trade ${id}`);

try {
  for (;;) {
    await publishMessages(trades, Array.from({ length: batchTrades }, nextTrade), stop.signal);
    await pause(10, undefined, { signal: stop.signal });
  }
} catch (error) {
  // Both waits end that way, for room and for the next batch.
  if (!stop.signal.aborted) throw error;
}

function nextTrade(): Message {
  id += 1n;
  const timestampNs = BigInt(Date.now()) * 1_000_000n;
  const bytes = encodeTrade({
    price: 60_000n + (id % 7n),
    quantity: 1n,
    makerOrderId: 2n * id,
    takerOrderId: 2n * id + 1n,
    buyer: id % 10n,
    seller: (id + 1n) % 10n,
    takerSide: "buy",
  });
  return { id, prevId: id - 1n, timestampNs, bytes };
}
