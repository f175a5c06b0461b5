/** The kills of a plan, carried out: each once those it is for are at work. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Kill } from "./chaos.ts";
import type { SupervisedService } from "./supervised-service.ts";

const pollIntervalMs = 2;

/** What of a service there is to look at, and to kill. */
export type Mortal = Pick<SupervisedService, "state" | "hasProgressed" | "pid" | "kill"> & {
  readonly entry: { readonly name: string };
};

/** Resolves behind the last kill, and where the signal aborts. `killed` is told of each. */
export async function inflict(
  kills: readonly Kill[],
  services: readonly Mortal[],
  killed: (kill: Kill, index: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const startMs = performance.now();
  /** Looks again and again; false where the run ends first. */
  const when = async (condition: () => boolean): Promise<boolean> => {
    while (!signal.aborted && !condition()) await sleep(pollIntervalMs);
    return !signal.aborted;
  };
  for (const [index, kill] of kills.entries()) {
    const victims = services.filter(({ entry }) => kill.services.includes(entry.name));
    if (!(await when(() => performance.now() - startMs >= kill.atMs))) return;
    // One that has only just come back is let to do something first.
    if (!(await when(() => victims.every(isAtWork)))) return;
    const processes = victims.map(({ pid }) => pid);
    for (const victim of victims) victim.kill();
    killed(kill, index);
    // By its process: one may be back at work before another one is gone.
    if (!(await when(() => victims.every(({ pid }, at) => pid !== processes[at])))) return;
  }
}

function isAtWork({ state, hasProgressed }: Mortal): boolean {
  return state === "done" || (state === "running" && hasProgressed);
}
