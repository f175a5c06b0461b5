/** Publishes a million messages and reads them, again and again: see hot-path.ts. */
import type { MessageHandler } from "gapless/bus";
import { ageChannel, channelName, openAs, openFile } from "./bus-channel.ts";
import { printPasses } from "./hot-path.ts";

const [, , directory = "", position = "0", sequence = "0"] = process.argv;
const rounds = 1_000_000;
const batch = 4;

const file = openFile(directory);
if (Number(sequence) > 0) ageChannel(file.lanes[0], Number(position), Number(sequence));
const publisher = openAs(directory, "engine").publisher(channelName);
const subscriber = openAs(directory, "ledger").subscriber(channelName);
const sum = new Float64Array(1);

const add: MessageHandler = (memory, offset, length) => {
  sum[0] = (sum[0] ?? 0) + (memory.doubles[offset / 8] ?? 0) + length;
};

function run(): void {
  const { view } = publisher.memory;
  for (let round = 0; round < rounds; round += batch) {
    for (let message = 0; message < batch; message++) {
      const offset = publisher.claim(16 + (round & 63));
      view.setFloat64(offset, round, true);
    }
    publisher.commit();
    subscriber.poll(add, 100);
    subscriber.release();
  }
}

run();
await printPasses(5, rounds, run);
if (!(Number(sum[0]) > 0)) throw new Error("nothing was read");
