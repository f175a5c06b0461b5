/** When to kill whom: decided before the run, from a seed. */
import { seededRandom } from "../random.ts";

export interface Kill {
  readonly service: string;
  /** Milliseconds after the start of the run, at the earliest. */
  readonly atMs: number;
}

/** Milliseconds between two kills, on average: time for a service to come back and get going. */
export const killIntervalMs = 400;

/** `count` kills spread over `count * killIntervalMs`, one in each interval. */
export function planKills(count: number, services: readonly string[], seed: number): Kill[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, (_, index) => ({
    service: services[random.below(services.length)] ?? "",
    atMs: index * killIntervalMs + random.below(killIntervalMs),
  }));
}
