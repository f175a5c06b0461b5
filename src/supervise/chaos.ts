/** When to kill whom: decided before the run, from a seed. */
import { seededRandom } from "../random.ts";

/** What chaos knows of a service. */
export interface Victim {
  readonly name: string;
  /** Those of one side fail together at times, as if on one machine. */
  readonly side: string | undefined;
}

export interface Kill {
  /** At least one: with `side`, all that are on it. */
  readonly services: readonly string[];
  readonly side: string | undefined;
  /** Milliseconds after the start of the run, at the earliest. */
  readonly atMs: number;
}

/** Milliseconds between two kills, on average: time for a service to come back and get going. */
export const killIntervalMs = 400;
/** One in so many kills takes a whole side, where there are any. */
const sideInterval = 4;

/** `count` kills spread over `count * killIntervalMs`, one in each interval. */
export function planKills(count: number, victims: readonly Victim[], seed: number): Kill[] {
  const random = seededRandom(seed);
  const names = victims.map(({ name }) => name);
  const sides = [...new Set(victims.flatMap(({ side }) => (side === undefined ? [] : [side])))];
  return Array.from({ length: count }, (_, index) => {
    const atMs = index * killIntervalMs + random.below(killIntervalMs);
    const takesSide = sides.length > 0 && index % sideInterval === sideInterval - 1;
    const side = takesSide ? sides[random.below(sides.length)] : undefined;
    const services = takesSide
      ? victims.filter((victim) => victim.side === side).map(({ name }) => name)
      : [names[random.below(names.length)] ?? ""];
    return { services, side, atMs };
  });
}
