/**
 * The transformed ring, loaded, with stand-ins for what is outside it: processes, clocks, futexes
 * and heartbeats. A party that naps or sleeps says so to the scheduler.
 */
import * as backpressure from "../../../src/bus/backpressure.ts";
import * as channelFile from "../../../src/bus/channel-file.ts";
import type { Channel } from "../../../src/bus/config.ts";
import * as envelope from "../../../src/bus/envelope.ts";
import { Lane, laneBytesOf } from "../../../src/bus/lane.ts";
import * as latency from "../../../src/bus/latency.ts";
import * as layout from "../../../src/bus/layout.ts";
import * as misuse from "../../../src/bus/misuse.ts";
import * as topics from "../../../src/bus/topics.ts";
import * as errors from "../../../src/errors.ts";
import { Digest, WatchedMemory } from "./memory.ts";
import { transformRing, type SourceEdit } from "./transform.ts";

/** What a party yields: the index of the place where it is, or one of these. */
export const napping = -1;
export const falling = -2;
export const between = -3;

export type Steps<Result> = Generator<number, Result, void>;

/** What the transformed ends look like: methods are generators, getters methods. */
export interface Offering {
  sequence: number;
  memory: Lane;
  $open(lane: Lane, producer: number, takesOver?: boolean): Steps<Offering>;
  claim(length: number): Steps<number>;
  commit(): Steps<void>;
  abort(): Steps<void>;
  offer(bytes: Uint8Array): Steps<number>;
  offerMany(messages: readonly Uint8Array[]): Steps<number>;
  waitForRoomBlocking(length: number, timeoutMs: number): Steps<boolean>;
  finish(): Steps<void>;
  close(): Steps<void>;
}

export type StepHandler = (memory: Lane, offset: number, length: number) => Steps<void>;

export interface Taking {
  $open(lanes: readonly Lane[], consumer: number, options: object): Steps<Taking>;
  poll(handler: StepHandler, limit: number): Steps<number>;
  release(): Steps<void>;
  waitBlocking(timeoutMs: number): Steps<void>;
  ended(): Steps<boolean>;
  close(): Steps<void>;
}

/** One that the scheduler may let go on. */
export class Party {
  readonly name: string;
  readonly pid: number;
  readonly body: () => Steps<void>;
  readonly read = new Digest();
  steps: Steps<void>;
  state: "ready" | "napping" | "asleep" | "done" | "dead" = "ready";
  /** What it sleeps on, and at which version of the memory it fell into a nap. */
  bed = -1;
  napLow = 0;
  napHigh = 0;

  constructor(name: string, pid: number, body: () => Steps<void>) {
    this.name = name;
    this.pid = pid;
    this.body = body;
    this.steps = body();
  }
}

const noParty = new Party("nobody", 1, function* () {});

export interface Waiting {
  $open(lane: Lane, producer: number): Steps<Waiting>;
  isDue(): Steps<boolean>;
}

interface RingModules {
  readonly Publisher: new () => Offering;
  readonly Subscriber: new () => Taking;
  readonly Standby: new () => Waiting;
}

export class Stage {
  readonly lane: Lane;
  readonly memory: WatchedMemory;
  readonly places: readonly string[];
  readonly ring: RingModules;
  parties: Party[] = [];
  current = noParty;
  /** Whether every end that does not move counts as silent for too long. */
  isImpatient = false;

  constructor(channel: Channel, edits: readonly SourceEdit[], isFine: boolean) {
    const buffer = new ArrayBuffer(laneBytesOf(channel));
    this.memory = new WatchedMemory(buffer);
    this.lane = makeLane(channel, buffer);
    const { modules, places } = compiled(edits, isFine);
    this.places = places;
    this.ring = this.load(modules);
  }

  isAlive(pid: number): boolean {
    const party = this.parties.find((one) => one.pid === pid);
    const lives = party !== undefined && party.state !== "dead";
    this.current.read.fold(lives ? 1 : 2);
    return lives;
  }

  /** Whether it is dead, or does not move where that counts: one that has left or never came. */
  private isLost(words: Int32Array, base: number): boolean {
    const pid = this.memory.load(words, base + layout.partyOffset.owner);
    return this.isImpatient || (pid !== 0 && !this.isAlive(Math.abs(pid)));
  }

  /** Runs something to its end before anything else moves. */
  drain<Result>(steps: Steps<Result>): Result {
    while (true) {
      const { done, value } = steps.next();
      if (done === true) return value;
    }
  }

  private load(modules: ReadonlyMap<string, string>): RingModules {
    const loaded = new Map<string, object>(Object.entries(this.standIns()));
    const require = (specifier: string): object => {
      const known = loaded.get(specifier);
      if (known !== undefined) return known;
      const code = modules.get(specifier.replace(/^\.\//, ""));
      if (code === undefined) throw new Error(`no stand-in for ${specifier}`);
      const exports = {};
      loaded.set(specifier, exports);
      const names = ["exports", "require", "$", "performance", "process", "setInterval"];
      // eslint-disable-next-line @typescript-eslint/no-implied-eval
      const run = new Function(...names, code) as (...values: unknown[]) => void;
      run(exports, require, this.operations(), { now: () => 0 }, this.process(), () => undefined);
      return exports;
    };
    const { Lane: LaneOfSteps } = require("./lane.ts") as { Lane: typeof Lane };
    // There `tail` is a method that stops.
    Object.setPrototypeOf(this.lane, LaneOfSteps.prototype);
    return {
      ...(require("./publisher.ts") as Pick<RingModules, "Publisher">),
      ...(require("./subscriber.ts") as Pick<RingModules, "Subscriber">),
      ...(require("./failover.ts") as Pick<RingModules, "Standby">),
    };
  }

  private process(): object {
    const kill = (pid: number): void => {
      const party = this.parties.find((one) => one.pid === pid);
      if (party !== undefined) party.state = "dead";
    };
    return { env: {}, pid: -1, kill };
  }

  private operations(): object {
    const { memory } = this;
    return {
      get: memory.get.bind(memory),
      set: memory.set.bind(memory),
      load: memory.load.bind(memory),
      store: memory.store.bind(memory),
      add: memory.add.bind(memory),
      compareExchange: memory.compareExchange.bind(memory),
      wait: () => "timed-out",
      /** In two halves: what is copied may be written meanwhile. */
      *copy(place: number, target: Uint8Array, source: Uint8Array, offset = 0): Steps<void> {
        const words = source.length >>> 2;
        yield place;
        memory.copyWords(target, source, offset, 0, words >>> 1);
        yield place;
        memory.copyWords(target, source, offset, words >>> 1, words);
      },
      *callBack(steps: Steps<void> | undefined): Steps<void> {
        if (steps !== undefined) yield* steps;
      },
      *every<Item>(items: Item[], isSo: (item: Item) => Steps<boolean>): Steps<boolean> {
        for (const item of items) if (!(yield* isSo(item))) return false;
        return true;
      },
      *some<Item>(items: Item[], isSo: (item: Item) => Steps<boolean>): Steps<boolean> {
        for (const item of items) if (yield* isSo(item)) return true;
        return false;
      },
      *reduce<Item>(
        items: Item[],
        join: (sum: number, item: Item) => Steps<number>,
        start: number,
      ): Steps<number> {
        let sum = start;
        for (const item of items) sum = yield* join(sum, item);
        return sum;
      },
    };
  }

  private standIns(): Record<string, object> {
    const identity = (): object => ({ pid: this.current.pid, startTicks: 0, bootId: "" });
    return {
      "../errors.ts": errors,
      "./layout.ts": layout,
      "./channel-file.ts": channelFile,
      "./backpressure.ts": backpressure,
      "./latency.ts": latency,
      "./misuse.ts": misuse,
      "./topics.ts": topics,
      "./envelope.ts": envelope,
      "../clock.ts": { bootMs: () => 0, bootNs: () => 0 },
      "./heartbeat.ts": {
        beat: () => undefined,
        beatNow: () => undefined,
        silenceMs: () => (this.isImpatient ? Infinity : 0),
        isLost: (words: Int32Array, base: number) => this.isLost(words, base),
      },
      "../memory/heartbeat.ts": { startBeating: () => undefined, stopBeating: () => undefined },
      "./events.ts": { announceBusEvent: () => undefined, placeOf: () => ({}) },
      "../memory/process-identity.ts": {
        identifySelf: identity,
        isAlive: ({ pid }: { pid: number }) => this.isAlive(pid),
      },
      "./futex.ts": this.futexes(),
      "./pool-threads.ts": {},
      "node:fs": {
        readFileSync: (file: string) => {
          const pid = Number(file.split("/")[2]);
          if (this.isAlive(pid)) return `${pid} (node) S`;
          throw Object.assign(new Error(file), { code: "ENOENT" });
        },
      },
      "node:timers/promises": {},
    };
  }

  private futexes(): object {
    const { memory, lane } = this;
    const current = (): Party => this.current;
    const parties = (): Party[] => this.parties;
    return {
      /** The kernel looks at the word and falls asleep in one. */
      *futexWait(address: bigint, expected: number): Steps<void> {
        yield between;
        const bed = Number(address) / 4;
        if (memory.load(lane.words, bed) !== expected) return;
        current().bed = bed;
        yield falling;
      },
      *futexWake(address: bigint): Steps<void> {
        yield between;
        for (const party of parties()) {
          if (party.bed !== Number(address) / 4) continue;
          party.bed = -1;
          party.state = "ready";
        }
      },
    };
  }
}

/** Numbers that only bound how long one spins are as low as they go. */
const shortened: readonly SourceEdit[] = [
  { file: "claim-lock.ts", from: "const spins = 200;", to: "const spins = 0;" },
  { file: "claim-lock.ts", from: "const napsPerLook = 4;", to: "const napsPerLook = 1;" },
  {
    file: "publisher.ts",
    from: "const refusedCheckMs = 100;",
    to: "const refusedCheckMs = 0;",
  },
  { file: "failover.ts", from: "const silentLooks = 2;", to: "const silentLooks = 1;" },
  // It is killed only where it does not move again: here everybody may.
  { file: "failover.ts", from: "const stuckLooks = 3;", to: "const stuckLooks = 1e9;" },
];

const known = new Map<string, ReturnType<typeof transformRing>>();

function compiled(edits: readonly SourceEdit[], isFine: boolean): ReturnType<typeof transformRing> {
  const key = JSON.stringify([edits, isFine]);
  const result = known.get(key) ?? transformRing([...shortened, ...edits], isFine);
  known.set(key, result);
  return result;
}

function makeLane(channel: Channel, buffer: ArrayBuffer): Lane {
  return new Lane(channel, buffer, 0, 0n);
}
