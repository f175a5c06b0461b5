/**
 * npm run example examples/bus/1-market.ts [TRADES]
 *
 * Publishes trades, each encoded in place, under the topic of its market.
 *
 * Start the market first, then both strategies, then the executor, and in that order again for
 * another run: whoever is early sees the end of the last one.
 */
import { setTimeout as pause } from "node:timers/promises";
import { openBus } from "gapless/bus";
import { headerBytes, layouts, tlvBytes, TlvBuilder } from "gapless/tlv";

const [, , count = "1000"] = process.argv;
const claimBytes = headerBytes + tlvBytes(layouts.trade.bytesMin);

using bus = openBus(`${import.meta.dirname}/bus.toml`, { service: "market" });
const trades = bus.publisher("trades");
const topics = [trades.topic("spot.BTC-USD"), trades.topic("spot.ETH-USD")];
const builder = new TlvBuilder({ domain: "marketData", source: 1 });

for (let number = 1; number <= Number(count); number++) {
  const offset = trades.claim(claimBytes, topics[number % 2]);
  if (offset < 0) throw new Error(`not published: ${offset}`);
  builder.begin(trades.memory, offset, claimBytes);
  builder.header.sequenceNumber = number;
  const trade = builder.addTrade();
  trade.assetIdNumber = number % 2;
  trade.priceNumber = (60_000 + (number % 7)) * 1e8;
  trade.volumeNumber = 1e8;
  builder.finish();
  trades.commit();
  if (number % 100 === 0) await pause(10);
}
trades.finish();
console.log(`${count} trades published`);
