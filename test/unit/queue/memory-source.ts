/**
 * A source of a fan-in that is no queue, and as strict as one may be: what was handed out is gone
 * as soon as it may be, and whoever takes or commits what it was not given is found out.
 */
import assert from "node:assert/strict";
import type { Clock } from "../../../src/clock.ts";
import { futexWake, type AwaitedWord } from "../../../src/memory/futex.ts";
import { addressOf } from "../../../src/memory/libc.ts";
import type { FanInEnvelope, FanInSource } from "../../../src/queue/fan-in-source.ts";
import type { SegmentMemory } from "../../../src/queue/segment.ts";

const wakesWord = 0;
const asleepWord = 1;

class MemoryEnvelope implements FanInEnvelope {
  readonly epoch = 3;
  sequence = 0;
  private readonly times: readonly bigint[];

  constructor(times: readonly bigint[]) {
    this.times = times;
  }

  get type(): number {
    return this.sequence % 7;
  }

  get timestampNs(): bigint {
    return this.times[this.sequence - 1] ?? -1n;
  }

  get timestampHigh(): number {
    return Number(this.timestampNs >> 32n);
  }

  get timestampLow(): number {
    return Number(this.timestampNs & 0xffff_ffffn);
  }
}

export class MemorySource implements FanInSource {
  /** Of every message, the first one at 0. */
  readonly times: bigint[] = [];
  readonly envelope = new MemoryEnvelope(this.times);
  readonly sleep: AwaitedWord;
  memory = makeMemory();
  offset = 0;
  length = 0;
  taken = 0;
  committed = 0;
  /** What the next message cannot be read for. */
  failure: Error | undefined;
  private readonly words = new Int32Array(new ArrayBuffer(64));
  private isPeeked = false;

  constructor() {
    const { words } = this;
    this.sleep = { words, index: wakesWord, address: addressOf(words.buffer), expected: 0 };
  }

  /** The payload of a message is its sequence, as a u32. */
  append(...times: bigint[]): void {
    this.times.push(...times);
    if (Atomics.exchange(this.words, asleepWord, 0) === 0) return;
    Atomics.add(this.words, wakesWord, 1);
    futexWake(this.sleep.address);
  }

  get lag(): number {
    return this.times.length - this.taken;
  }

  peek(): boolean {
    if (this.failure !== undefined) throw this.failure;
    if (this.isPeeked) return true;
    this.memory.bytes.fill(0xee);
    if (this.lag === 0) return false;
    this.isPeeked = true;
    this.memory = makeMemory();
    this.envelope.sequence = this.taken + 1;
    this.offset = 4 * (this.taken % 3);
    this.length = 4;
    this.memory.view.setUint32(this.offset, this.envelope.sequence, true);
    return true;
  }

  take(): void {
    assert.ok(this.isPeeked, "nothing was peeked at");
    this.isPeeked = false;
    this.taken++;
  }

  commitThrough(sequence: number): void {
    assert.ok(sequence > this.committed && sequence <= this.taken, `commit through ${sequence}`);
    this.committed = sequence;
  }

  prepareToSleep(): boolean {
    this.sleep.expected = Atomics.load(this.words, wakesWord);
    Atomics.store(this.words, asleepWord, 1);
    return this.lag === 0 && this.failure === undefined;
  }

  /** Whether somebody said that it is about to sleep, and was not woken. */
  get hasSleeper(): boolean {
    return Atomics.load(this.words, asleepWord) === 1;
  }
}

/** It goes when it is told to. */
export class SteppedClock implements Clock {
  ns = 0n;

  nowNs(): bigint {
    return this.ns;
  }

  monotonicNs(): bigint {
    return this.ns;
  }
}

function makeMemory(): SegmentMemory {
  const buffer = new ArrayBuffer(64);
  return {
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer),
  };
}
