/**
 * npm run example examples/bus/2-strategy.ts arbitrage|momentum
 *
 * Reads the trades of one market in place, and sends a signal for each dear one.
 * The order to start in: market, both strategies, executor.
 */
import { openBus } from "gapless/bus";
import { flyweight, TlvReader } from "gapless/tlv";

const [, , service = "arbitrage"] = process.argv;
const topic = service === "arbitrage" ? "spot.BTC" : "spot.ETH";

using bus = openBus(`${import.meta.dirname}/bus.toml`, { service });
const trades = bus.subscriber("trades", {
  topics: [topic],
  onLoss: ({ from, to }) => console.log(`too slow for trades ${from} to ${to}`),
});
const signals = bus.publisher("signals");
const message = new TlvReader();
const trade = flyweight("trade");

let read = 0;
while (!trades.ended) {
  const taken = trades.poll((memory, offset, length) => {
    message.wrap(memory, offset, length);
    if (!message.next()) return;
    trade.wrap(memory, message.valueOffset, message.valueLength);
    read++;
    if (trade.priceNumber < 60_006 * 1e8) return;
    signals.offer(Buffer.from(`${service}: sell, trade ${message.header.sequenceNumber}`));
  }, 256);
  if (taken === 0) await trades.wait(1000);
  else trades.release();
}
signals.finish();
console.log(`${service}: ${read} trades of ${topic}`);
