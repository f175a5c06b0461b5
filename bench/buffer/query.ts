/**
 * What does a range take, by how many messages it has?
 *
 *   buffer.query.hot.{1,100,1000}    from memory
 *   buffer.query.cold.{1,100,1000}   from RocksDB: nothing is hot, ranges begin anywhere
 *
 * In µs, the median. `afterRestart` is the first range of a buffer that was just opened.
 */
import { seededRandom } from "../../src/random.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { percentilesOf } from "../samples.ts";
import { fillTo, inScratch, openBench, timesOf } from "./stage.ts";

const limits = [1, 100, 1000] as const;
const sizes = {
  full: { messages: 1_000_000, rounds: 5000 },
  small: { messages: 20_000, rounds: 20 },
} as const satisfies Record<Size, object>;
const hotMessages = 10_000;

export function query(size: Size): Promise<Figure[]> {
  const { messages, rounds } = sizes[size];
  return inScratch(async (directory) => {
    {
      await using buffer = await openBench(directory, 0, { sync: false });
      await fillTo(buffer, messages);
    }
    const figures: Figure[] = [];
    for (const tier of ["hot", "cold"] as const) {
      const capacity = tier === "hot" ? hotMessages : 0;
      for (const limit of limits) {
        figures.push(await measure(directory, tier, { capacity, limit, messages, rounds }));
      }
    }
    return figures;
  });
}

interface Load {
  readonly capacity: number;
  readonly limit: number;
  readonly messages: number;
  readonly rounds: number;
}

async function measure(
  directory: string,
  tier: "hot" | "cold",
  { capacity, limit, messages, rounds }: Load,
): Promise<Figure> {
  const random = seededRandom(limit);
  await using buffer = await openBench(directory, capacity, { sync: false });
  const first = await timesOf(1, () => buffer.sync(1n, limit));
  // What is hot was appended since the opening.
  const last = Number(buffer.lastId);
  const newest = capacity === 0 ? messages : last + capacity;
  if (capacity > 0) await fillTo(buffer, newest);
  const oldest = capacity === 0 ? 1 : last + 1;
  let sum = 0n;
  const ask = async (): Promise<void> => {
    const startId = oldest + random.below(newest - oldest - limit);
    const range = await buffer.sync(BigInt(startId), limit);
    if (range.length !== limit) throw new Error(`messages=${range.length} of ${limit}`);
    sum += range.at(-1)?.id ?? 0n;
  };
  await timesOf(Math.min(rounds, 500), ask);
  const { p50, ...tail } = percentilesOf(await timesOf(rounds, ask));
  const { hitRate } = await buffer.stats();
  if (sum === 0n || (tier === "hot" && hitRate < 0.9)) throw new Error(`hitRate=${hitRate}`);
  const afterRestart = Number(((first[0] ?? 0) / 1000).toPrecision(3));
  const restart = tier === "cold" ? { afterRestart } : {};
  return figure(`buffer.query.${tier}.${limit}`, p50, "µs", undefined, {
    p50,
    ...tail,
    ...restart,
  });
}
