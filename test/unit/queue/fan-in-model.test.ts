/**
 * A fan-in against a model of it: whatever is appended, added, removed, polled and committed in
 * whatever order, each message of each source comes once and in the order of its source, those
 * that are there come by time, and commits cover what was delivered.
 */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { openFanIn, type FanInReader } from "../../../src/queue/fan-in.ts";
import { MemorySource, SteppedClock } from "./memory-source.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const watermarkNs = 1000n;

/** What the world knows of a source. */
interface Branch {
  readonly name: string;
  readonly source: MemorySource;
  delivered: number;
  /** Whether anything was delivered of it since it was added. */
  isFresh: boolean;
  committed: number;
}

class World {
  private readonly clock = new SteppedClock();
  private readonly hasWatermark: boolean;
  private readonly fanIn: FanInReader;
  /** Sources in the order in which they were added, and those that are not among them. */
  private readonly joined: Branch[] = [];
  private readonly apart: Branch[] = [];
  private latest = 0n;
  private late = 0;
  private made = 0;

  constructor(hasWatermark: boolean) {
    const { clock } = this;
    this.hasWatermark = hasWatermark;
    this.fanIn = openFanIn(
      hasWatermark ? { watermarkMs: Number(watermarkNs) / 1e6, clock } : { clock },
    );
  }

  make(): void {
    const name = `source-${this.made++}`;
    const source = new MemorySource();
    this.apart.push({ name, source, delivered: 0, isFresh: true, committed: 0 });
  }

  add(pick: number): void {
    const [branch] = this.apart.splice(pick % (this.apart.length || 1), 1);
    if (branch === undefined) return;
    branch.isFresh = true;
    this.fanIn.add(branch.source, branch.name);
    this.joined.push(branch);
  }

  remove(pick: number): void {
    const [branch] = this.joined.splice(pick % (this.joined.length || 1), 1);
    if (branch === undefined) return;
    assert.ok(this.fanIn.remove(branch.name));
    this.apart.push(branch);
  }

  /** With steps that are negative, times run backwards. */
  append(pick: number, steps: readonly number[]): void {
    const all = [...this.joined, ...this.apart];
    const branch = all[pick % (all.length || 1)];
    for (const step of steps) {
      const time = (branch?.source.times.at(-1) ?? this.clock.ns) + BigInt(step);
      branch?.source.append(time > 0n ? time : 0n);
    }
  }

  tick(ns: number): void {
    this.clock.ns += BigInt(ns);
  }

  poll(limit: number, throwAt?: number): void {
    const failure = new Error("planned");
    let count = 0;
    try {
      const returned = this.fanIn.poll((name, { view }, offset) => {
        if (count === throwAt) throw failure;
        this.deliver(name, view.getUint32(offset, true));
        count++;
      }, limit);
      assert.equal(returned, count);
      assert.ok(count <= limit);
      // It stopped because nothing was left that may go.
      if (count < limit) assert.equal(this.next(), undefined);
    } catch (error) {
      if (error !== failure) throw error;
    }
    assert.equal(this.fanIn.late, this.late);
    this.checkPositions();
  }

  commit(): void {
    this.fanIn.commit();
    for (const branch of this.joined) if (!branch.isFresh) branch.committed = branch.delivered;
    this.checkPositions();
  }

  /** In the end nothing is missing, and nothing is there twice. */
  finish(): void {
    while (this.apart.length > 0) this.add(0);
    this.clock.ns = 2n ** 64n - 1n;
    this.poll(Infinity);
    this.commit();
    for (const { source, delivered } of this.joined) {
      assert.equal(delivered, source.times.length);
    }
    assert.equal(this.fanIn.lag, 0);
  }

  private deliver(name: string, sequence: number): void {
    const branch = this.next();
    assert.equal(name, branch?.name);
    assert.ok(branch);
    const time = headOf(branch);
    assert.equal(sequence, branch.delivered + 1);
    assert.equal(this.fanIn.envelope.timestampNs, time);
    branch.delivered = sequence;
    branch.isFresh = false;
    if (time === undefined || time >= this.latest) this.latest = time ?? 0n;
    else this.late++;
  }

  /** Whose message is to come next; undefined where none may. */
  private next(): Branch | undefined {
    let oldest: Branch | undefined;
    let oldestTime: bigint | undefined;
    for (const branch of this.joined) {
      const time = headOf(branch);
      if (time === undefined || (oldestTime !== undefined && time >= oldestTime)) continue;
      oldest = branch;
      oldestTime = time;
    }
    if (!this.hasWatermark || oldestTime === undefined) return oldest;
    const isFree =
      oldestTime < this.latest ||
      oldestTime < this.clock.ns - watermarkNs ||
      this.joined.every((branch) => headOf(branch) !== undefined);
    return isFree ? oldest : undefined;
  }

  private checkPositions(): void {
    let lag = 0;
    for (const { source, delivered } of this.joined) lag += source.times.length - delivered;
    assert.equal(this.fanIn.lag, lag);
    for (const { source, delivered, committed } of [...this.joined, ...this.apart]) {
      assert.equal(source.taken, delivered);
      assert.equal(source.committed, committed);
    }
  }
}

/** Time of the message that was not delivered. */
function headOf({ source, delivered }: Branch): bigint | undefined {
  return source.times[delivered];
}

type Step =
  | readonly ["make" | "commit"]
  | readonly ["add" | "remove" | "tick", value: number]
  | readonly ["append", pick: number, steps: number[]]
  | readonly ["poll", limit: number, throwAt?: number];

const pick = fc.nat(1000);
const limit = fc.oneof(fc.nat(5), fc.constant(1000));
/** Mostly forwards, often not at all, and now and then back. */
const timeStep = fc.oneof(
  { weight: 5, arbitrary: fc.nat(1000) },
  { weight: 3, arbitrary: fc.nat(1) },
  { weight: 1, arbitrary: fc.integer({ min: -2000, max: 0 }) },
  { weight: 1, arbitrary: fc.constant(2 ** 32) },
);
const step = fc.oneof<{ weight: number; arbitrary: fc.Arbitrary<Step> }[]>(
  { weight: 1, arbitrary: fc.constant(["make"] as const) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("add" as const), pick) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("remove" as const), pick) },
  {
    weight: 8,
    arbitrary: fc.tuple(fc.constant("append" as const), pick, fc.array(timeStep, { maxLength: 5 })),
  },
  { weight: 8, arbitrary: fc.tuple(fc.constant("poll" as const), limit) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("poll" as const), limit, fc.nat(3)) },
  { weight: 3, arbitrary: fc.constant(["commit"] as const) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("tick" as const), fc.nat(2000)) },
);

for (const hasWatermark of [false, true]) {
  const how = hasWatermark ? "with a watermark" : "greedily";
  test(`${how}, each message comes once, in its order and by time, and commits cover what came`, (t) => {
    t.diagnostic(`SEED=${seed}`);
    fc.assert(
      fc.property(fc.nat(6), fc.array(step, { maxLength: 200, size: "max" }), (count, list) => {
        const world = new World(hasWatermark);
        for (let source = 0; source < count; source++) {
          world.make();
          world.add(0);
        }
        for (const [name, ...values] of list) {
          Reflect.apply(Reflect.get(world, name) as (...values: unknown[]) => void, world, values);
        }
        world.finish();
      }),
      { seed, numRuns: 400 },
    );
  });
}
