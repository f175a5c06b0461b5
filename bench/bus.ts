/**
 * How fast is a channel between processes, each on a core of its own as far as there are cores?
 *
 *   bus.spsc.*, spmc2, mpsc3, mpmc22   M msg/s: bench/bus/throughput.ts
 *   bus.rtt.*, write, read, end_to_end µs: bench/bus/latency.ts
 *   bus.idle, bus.wake                 what a consumer that sleeps costs: bench/bus/sleep.ts
 *   bus.peers.*                        what a Node user has today: bench/peers/
 *
 * The reference is bench/reference/ring.c: the same layout, the same protocols, the same batches,
 * the same cores, measured in turns with ours: what else the machine does then meets both.
 */
import { latency } from "./bus/latency.ts";
import { gatherCrew } from "./bus/crew.ts";
import { buildReference } from "./reference/build.ts";
import { sleep } from "./bus/sleep.ts";
import { throughput } from "./bus/throughput.ts";
import type { Figure, Size } from "./figure.ts";
import { peers } from "./peers/peers.ts";

export async function bus(size: Size): Promise<Figure[]> {
  const figures: Figure[] = [];
  {
    using reference = buildReference("ring");
    await using crew = gatherCrew(size);
    figures.push(...(await throughput(size, crew, reference)));
    figures.push(...(await latency(size, crew, reference)));
    figures.push(...(await sleep(size, crew, reference)));
  }
  const rates = new Map(
    [64, 1024].map((payloadBytes) => {
      const rate = figures.find(({ bench }) => bench === `bus.spsc.${payloadBytes}`)?.value;
      return [payloadBytes, rate ?? NaN];
    }),
  );
  figures.push(...(await peers(size, rates)));
  return figures;
}
