/**
 * Decides which party makes the next step: in all ways, as long as no more than so many times one
 * is put aside that could go on; or at random, by a seed.
 */
import { describeError } from "../../../src/errors.ts";
import { seededRandom, type Random } from "../../../src/random.ts";
import { falling, napping, type Party, type Stage } from "./stage.ts";

/** A scene is played again and again, each time from its beginning. */
export interface Play {
  readonly parties: Party[];
  /** Names of those that may be killed. */
  readonly mortal: readonly string[];
  /** Whether sleepers wake by themselves even if nobody died. */
  readonly hasTimeouts: boolean;
  /** Names of those of whom nothing remains, once they are gone, but what `facts` tells. */
  readonly forgettable: readonly string[];
  /** What the verdict will depend on, besides what those who are there have read. */
  facts(fold: (value: number) => void): void;
  /** What is wrong once nobody can go on; undefined: nothing. */
  verdict(): string | undefined;
}

export interface Bounds {
  /** How often one may be put aside that could go on. */
  readonly preemptions: number;
  readonly kills: number;
  /** An end to a search that does not end. */
  readonly runsMax: number;
}

export interface Findings {
  readonly runs: number;
  readonly steps: number;
  readonly states: number;
  /** Whether there was nothing left to try. */
  readonly isExhaustive: boolean;
  /** The first run that went wrong. */
  readonly failure: Failure | undefined;
}

export interface Failure {
  readonly reason: string;
  /** Who made how many steps: `engine×12 ledger×3 †engine`. */
  readonly schedule: string;
  /** The last steps, by party and line. */
  readonly trace: string;
}

const stepsMax = 6000;
const timeoutsMax = 3;
const tracedSteps = 100;
const states = ["ready", "napping", "asleep", "done", "dead"];

/** What can be done next. A kill is the index of a party, negated, less one. */
type Choice = (options: readonly number[], run: Run) => number;

/** Thrown where the rest of a run is known. */
const seenBefore = new Error("seen before");

class Run {
  preemptions = 0;
  kills = 0;
  steps = 0;
  readonly stage: Stage;
  readonly play: Play;
  current = 0;
  private readonly bounds: Bounds;
  private readonly isTraced: boolean;
  private readonly trail: [party: number, place: number][] = [];
  private quietTimeouts = 0;
  private low = 0;
  private high = 0;

  constructor(stage: Stage, play: Play, bounds: Bounds, isTraced: boolean) {
    this.stage = stage;
    this.play = play;
    this.bounds = bounds;
    this.isTraced = isTraced;
  }

  /** What went wrong, if anything did. */
  go(choose: Choice): string | undefined {
    try {
      while (true) {
        const options = this.options();
        const [only] = options;
        if (only === undefined) {
          if (this.passTime()) continue;
          return this.play.verdict();
        }
        const choice = options.length === 1 ? only : choose(options, this);
        if (choice < 0) {
          this.kill(-choice - 1);
          continue;
        }
        if (this.isForced(choice)) this.preemptions++;
        this.current = choice;
        this.step(choice);
        if (++this.steps > stepsMax) return "stuck: they go on for ever";
      }
    } catch (error) {
      if (error === seenBefore) throw error;
      return describeError(error);
    }
  }

  /** Of everything that what happens from here on depends on. */
  get state(): number {
    const { memory } = this.stage;
    let { low, high } = memory;
    const fold = (value: number): void => {
      low = Math.imul(low ^ value, 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ value ^ (low >>> 5), 0x85ebca6b);
      high ^= high >>> 13;
    };
    const { parties, forgettable } = this.play;
    this.play.facts(fold);
    for (const party of parties) {
      const isGone = party.state === "dead" || party.state === "done";
      if (!isGone || !forgettable.includes(party.name)) {
        fold(party.read.low);
        fold(party.read.high);
      }
      fold(states.indexOf(party.state) + (this.canGoOn(party) ? 8 : 0) + party.bed * 16);
    }
    fold(this.current * 64 + this.kills * 8 + this.quietTimeouts);
    return (low >>> 0) * 2 ** 20 + (high & 0xf_ffff);
  }

  describe(reason: string): Failure {
    const { parties } = this.play;
    const blocks: string[] = [];
    let count = 0;
    this.trail.forEach(([party, place], index) => {
      const name = parties[party]?.name ?? "";
      if (place === killed) {
        blocks.push(`†${name}`);
        count = 0;
        return;
      }
      count++;
      const next = this.trail[index + 1];
      if (next?.[0] === party && next[1] !== killed) return;
      blocks.push(`${name}×${count}`);
      count = 0;
    });
    const trace = this.trail
      .map(([party, place]) => `  ${parties[party]?.name ?? ""} ${this.nameOf(place)}`)
      .filter((line, index, lines) => line !== lines[index - 1])
      .slice(-tracedSteps);
    return { reason, schedule: blocks.join(" "), trace: trace.join("\n") };
  }

  private nameOf(place: number): string {
    if (place === killed) return "is killed";
    if (place === ended) return "is done";
    if (place === napping) return "naps";
    if (place === falling) return "sleeps";
    return this.stage.places[place] ?? "steps";
  }

  private canGoOn(party: Party): boolean {
    if (party.state === "ready") return true;
    const { low, high } = this.stage.memory;
    return party.state === "napping" && (party.napLow !== low || party.napHigh !== high);
  }

  /** Whether one is put aside that could go on, or one wakes from a nap before there is news. */
  private isForced(choice: number): boolean {
    const { parties } = this.play;
    const [before, next] = [parties[this.current], parties[choice]];
    if (next === undefined || before === undefined) return false;
    return !this.canGoOn(next) || (choice !== this.current && this.canGoOn(before));
  }

  private options(): number[] {
    const { parties, mortal } = this.play;
    const { current, bounds } = this;
    const options: number[] = [];
    const holder = parties[current];
    const goesOn = holder !== undefined && this.canGoOn(holder);
    if (goesOn) options.push(current);
    if (!goesOn || this.preemptions < bounds.preemptions) {
      parties.forEach((party, index) => {
        if (index !== current && this.canGoOn(party)) options.push(index);
      });
    }
    if (options.length > 0 && this.preemptions < bounds.preemptions) {
      parties.forEach((party, index) => {
        if (party.state === "napping" && !this.canGoOn(party)) options.push(index);
      });
    }
    if (holder !== undefined && this.kills < bounds.kills && mortal.includes(holder.name)) {
      if (holder.state !== "dead" && holder.state !== "done") options.push(-current - 1);
    }
    return options;
  }

  private step(index: number): void {
    const party = this.play.parties[index];
    if (party === undefined) return;
    const { stage } = this;
    stage.current = party;
    stage.memory.reader = party.read;
    party.state = "ready";
    const { done, value } = party.steps.next();
    const place = done === true ? ended : value;
    party.read.fold(place);
    if (this.isTraced) this.trail.push([index, place]);
    if (done === true) party.state = "done";
    else if (value === falling) party.state = "asleep";
    else if (value === napping) this.nap(party);
  }

  private nap(party: Party): void {
    party.state = "napping";
    party.napLow = this.stage.memory.low;
    party.napHigh = this.stage.memory.high;
  }

  private kill(index: number): void {
    const party = this.play.parties[index];
    if (party === undefined) return;
    party.state = "dead";
    party.bed = -1;
    this.kills++;
    this.quietTimeouts = 0;
    // Who naps looks again.
    for (const one of this.play.parties) if (one.state === "napping") one.state = "ready";
    if (this.isTraced) this.trail.push([index, killed]);
  }

  /** Nobody can go on: naps end, and sleeps where they may. False once that changes nothing. */
  private passTime(): boolean {
    const { low, high } = this.stage.memory;
    if (low !== this.low || high !== this.high) this.quietTimeouts = 0;
    this.low = low;
    this.high = high;
    if (++this.quietTimeouts > timeoutsMax) return false;
    let count = 0;
    const sleepersWake = this.play.hasTimeouts || this.kills > 0;
    for (const party of this.play.parties) {
      if (party.state === "napping" || (party.state === "asleep" && sleepersWake)) {
        party.state = "ready";
        party.bed = -1;
        count++;
      }
    }
    return count > 0;
  }
}

const killed = -10;
const ended = -11;

/** All schedules within the bounds, those that meet in one state once. */
export function explore(stage: Stage, begin: () => Play, bounds: Bounds): Findings {
  const seen = new Map<number, number>();
  const taken: number[] = [];
  const left: number[][] = [];
  let runs = 0;
  let steps = 0;
  while (runs < bounds.runsMax) {
    let depth = 0;
    const choose: Choice = (options, run) => {
      if (depth < taken.length) return taken[depth++] ?? 0;
      const { state } = run;
      const before = seen.get(state);
      if (before !== undefined && before <= run.preemptions) throw seenBefore;
      seen.set(state, run.preemptions);
      const [first = 0, ...others] = options;
      taken.push(first);
      left.push(others.reverse());
      depth++;
      return first;
    };
    const run = new Run(stage, begin(), bounds, false);
    runs++;
    let reason: string | undefined;
    try {
      reason = run.go(choose);
    } catch (error) {
      if (error !== seenBefore) throw error;
    }
    steps += run.steps;
    if (reason !== undefined) {
      const failure = replay(stage, begin, bounds, taken, reason);
      return { runs, steps, states: seen.size, isExhaustive: false, failure };
    }
    while (left.at(-1)?.length === 0) {
      left.pop();
      taken.pop();
    }
    const next = left.at(-1)?.pop();
    if (next === undefined) {
      return { runs, steps, states: seen.size, isExhaustive: true, failure: undefined };
    }
    taken[taken.length - 1] = next;
  }
  return { runs, steps, states: seen.size, isExhaustive: false, failure: undefined };
}

/** The same with ever wider bounds: what needs few to be put aside is found first. */
export function search(stage: Stage, begin: () => Play, bounds: Bounds): Findings {
  let findings: Findings | undefined;
  for (let preemptions = 0; preemptions <= bounds.preemptions; preemptions++) {
    const { kills } = bounds;
    const runsMax = bounds.runsMax - (findings?.runs ?? 0);
    const found = explore(stage, begin, { preemptions, kills, runsMax });
    findings = {
      ...found,
      runs: found.runs + (findings?.runs ?? 0),
      steps: found.steps + (findings?.steps ?? 0),
    };
    if (found.failure !== undefined) break;
  }
  if (findings === undefined) throw new Error("no bounds");
  return findings;
}

/** One run after the other at random, each by a seed of its own, from `seed` on. */
export function wander(
  stage: Stage,
  begin: () => Play,
  bounds: Bounds,
  seed: number,
): Findings & { readonly seed: number } {
  // As long as a run is in which nobody is put aside: what a seed does depends on nothing else.
  const calm = new Run(stage, begin(), bounds, false);
  calm.go(([first = 0]) => first);
  const length = Math.max(10, calm.steps);
  let { steps } = calm;
  for (let runs = 0; runs < bounds.runsMax; runs++) {
    const random = seededRandom(seed + runs);
    const taken: number[] = [];
    const choose = atRandom(random, length, bounds, taken);
    const run = new Run(stage, begin(), bounds, false);
    const reason = run.go(choose);
    steps += run.steps;
    if (reason === undefined) continue;
    const failure = replay(stage, begin, bounds, taken, reason);
    return { runs: runs + 1, steps, states: 0, isExhaustive: false, failure, seed: seed + runs };
  }
  return { runs: bounds.runsMax, steps, states: 0, isExhaustive: false, failure: undefined, seed };
}

function atRandom(random: Random, length: number, bounds: Bounds, taken: number[]): Choice {
  return (options, { current }) => {
    const isForced = !options.includes(current);
    const others = options.filter((option) => option !== current && option >= 0);
    const kill = options.find((option) => option < 0);
    let choice = current;
    if (kill !== undefined && random.below(length) < bounds.kills) choice = kill;
    else if (isForced || (others.length > 0 && random.below(length) < bounds.preemptions * 2)) {
      choice = others[random.below(others.length)] ?? current;
    }
    taken.push(choice);
    return choice;
  };
}

function replay(
  stage: Stage,
  begin: () => Play,
  bounds: Bounds,
  taken: readonly number[],
  reason: string,
): Failure {
  let depth = 0;
  const run = new Run(stage, begin(), bounds, true);
  const again = run.go((options) => taken[depth++] ?? options[0] ?? 0);
  if (again !== reason) throw new Error(`a run is not repeatable: ${reason}; then ${again ?? ""}`);
  return run.describe(reason);
}
