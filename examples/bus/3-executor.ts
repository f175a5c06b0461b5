/**
 * npm run example examples/bus/3-executor.ts
 *
 * Takes the signals of all strategies, in the one order that they have in the channel.
 * The order to start in: market, both strategies, executor.
 */
import { openBus } from "gapless/bus";

using bus = openBus(`${import.meta.dirname}/bus.toml`, { service: "executor" });

let count = 0;
for await (const batch of bus.subscriber("signals")) {
  for (const { bytes, sequence, producer } of batch) {
    const signal = new TextDecoder().decode(bytes);
    if (++count <= 3) console.log(`${sequence} from ${producer}: ${signal}`);
  }
}
console.log(`${count} signals`);
