/**
 * Does it matter how many messages there are?
 *
 *   buffer.trim.10k                   a trim of 10,000, in ms, the median
 *   buffer.scale.{1e5,1e6,1e7}        with so many: an append of 100 (unsynced), a range of 100
 *                                     from anywhere in RocksDB, a trim of 10,000; medians, in µs
 */
import { seededRandom } from "../../src/random.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { percentilesOf, type Percentiles } from "../samples.ts";
import { fillTo, inScratch, makeMessages, openBench, timesOf } from "./stage.ts";

const stages = {
  full: ["1e5", "1e6", "1e7"],
  small: ["5e4"],
} as const satisfies Record<Size, readonly string[]>;
const rounds = { full: 500, small: 5 } as const satisfies Record<Size, number>;
const trimmedMessages = 10_000;
/** A trim each leaves enough for the ranges. */
const trimsMax = 8;

interface Costs {
  readonly append: Percentiles;
  readonly query: Percentiles;
  readonly trim: Percentiles;
}

export async function scale(size: Size): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const stage of stages[size]) {
    const { append, query, trim } = await measure(Number(stage), size);
    figures.push(
      figure(`buffer.scale.${stage}`, append.p50, "µs", undefined, {
        append: append.p50,
        appendP99: append.p99,
        query: query.p50,
        queryP99: query.p99,
        trim: trim.p50,
        trimMax: trim.max,
      }),
    );
    if (stage === stages[size].at(-1)) {
      const { p50, max } = trim;
      const fields = { maxMs: max / 1000, messages: Number(stage) };
      figures.unshift(figure("buffer.trim.10k", p50 / 1000, "ms", undefined, fields));
    }
  }
  return figures;
}

function measure(messages: number, size: Size): Promise<Costs> {
  return inScratch(async (directory) => {
    const random = seededRandom(messages);
    await using buffer = await openBench(directory, 0, { sync: false });
    await fillTo(buffer, messages);
    const query = await timesOf(rounds[size], () =>
      buffer.sync(BigInt(1 + random.below(messages - 100)), 100),
    );
    const append = await timesOf(rounds[size], () =>
      buffer.append(makeMessages(Number(buffer.lastId), 100)),
    );
    const trims = Math.min(trimsMax, Math.floor(messages / trimmedMessages / 2));
    const trim = await timesOf(trims, async (round) => {
      const deleted = await buffer.trim(BigInt((round + 1) * trimmedMessages + 1));
      if (deleted !== trimmedMessages) throw new Error(`deleted=${deleted}`);
    });
    return {
      append: percentilesOf(append),
      query: percentilesOf(query),
      trim: percentilesOf(trim),
    };
  });
}
