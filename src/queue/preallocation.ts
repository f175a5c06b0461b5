/**
 * Segments made ahead of time, by one thread for all publishers of this one.
 *
 *   publisher   wish(7) ──────────────────────────────── take(7) ─ giveBack(6)
 *                  │                                    ▲              │
 *   thread         └─ reserve, head, sync ─ link ─ map ─┴─ ready       └─ unmap
 *                     the pages under a temporary name     the pages
 *
 * What the thread has not made in time, or could not make, the publisher makes itself, and so it
 * reports a full disk, not the thread. Both may make the same one: whoever links it first has made
 * it, and the other adopts it.
 */
import { setTimeout as pause } from "node:timers/promises";
import { describeError } from "../errors.ts";
import { adoptMapping, unmapMemory, type MappedMemory } from "../memory/mapping.ts";
import { segmentFileName } from "./layout.ts";
import { segmentOf, type Segment, type SegmentPlan } from "./segment.ts";
import { siblingModule, startSidecar, type Sidecar } from "../sidecar/sidecar.ts";
import { isAsPlanned, type SegmentSupply } from "./supply.ts";

/** How a supply goes about it. */
export interface PreallocationOptions {
  /** Segments to have ready at once. By default 64 MiB of them: at least 1, at most 4. */
  readonly ahead?: number;
}

/** A segment that is going to be needed. */
export interface SegmentWish {
  readonly kind: "make";
  readonly supply: number;
  readonly directory: string;
  readonly number: number;
  readonly plan: SegmentPlan;
  /** The least number that is still wanted: a word that both threads see. */
  readonly wanted: Int32Array;
}

/** What the thread is asked. */
export type PreallocationRequest =
  | SegmentWish
  | {
      readonly kind: "ready";
      readonly address: bigint;
      readonly offset: number;
      readonly end: number;
    }
  | { readonly kind: "unmap"; readonly memory: MappedMemory }
  /** Nothing, but that it is there. */
  | { readonly kind: "start" };

/** What it answers to a wish. */
export interface PreallocationReply {
  readonly supply: number;
  readonly number: number;
  /** undefined where the segment was not to be had. */
  readonly memory: MappedMemory | undefined;
}

const requestsMax = 4096;
const readyBytes = 64 * 1024 * 1024;
const aheadMax = 4;
const closeLookMs = 1;
/** Greater than the number of any segment. */
const nothingWanted = 0x7fff_ffff;

const lineWords = 16;

const supplies = new Map<number, Preallocation>();
/** Memory that the thread is going to be asked to unmap. */
const used: MappedMemory[] = [];
let thread: Sidecar<PreallocationRequest, PreallocationReply> | undefined;
let supplyNumber = 0;

/** A supply of segments as planned for the queue in `directory`. */
export function preallocate(
  directory: string,
  plan: SegmentPlan,
  options: PreallocationOptions = {},
): Preallocation {
  const fitting = Math.floor(readyBytes / plan.bytes);
  const ahead = options.ahead ?? Math.min(Math.max(fitting, 1), aheadMax);
  // It takes milliseconds, which a publisher has now, and not at an append.
  if (thread === undefined) post({ kind: "start" });
  return new Preallocation(directory, plan, ahead);
}

/** One that is ready to be taken, and what its first line has been when it was looked at. */
interface Made {
  readonly segment: Segment;
  readonly line: Int32Array;
}

/** The segments of one publisher. Made by `preallocate`. */
export class Preallocation implements SegmentSupply {
  private readonly id = supplyNumber++;
  private readonly directory: string;
  private readonly plan: SegmentPlan;
  private readonly ahead: number;
  private readonly wanted = new Int32Array(new SharedArrayBuffer(4));
  private readonly asked = new Set<number>();
  private readonly made = new Map<number, Made>();

  constructor(directory: string, plan: SegmentPlan, ahead: number) {
    this.directory = directory;
    this.plan = plan;
    this.ahead = ahead;
    supplies.set(this.id, this);
  }

  makeReady({ mapping, capacity: end }: Segment, offset: number): void {
    post({ kind: "ready", address: mapping.address, offset, end });
  }

  wish(first: number): void {
    hearReplies();
    unmapUsed();
    Atomics.store(this.wanted, 0, first);
    for (let number = first; number < first + this.ahead; number++) this.ask(number);
  }

  look(): void {
    hearReplies();
  }

  /** Whether the segment has been made and can be taken. */
  has(number: number): boolean {
    hearReplies();
    return this.made.has(number);
  }

  take(number: number): Segment | undefined {
    if (!this.made.has(number)) hearReplies();
    Atomics.store(this.wanted, 0, number + 1);
    const made = this.made.get(number);
    this.made.delete(number);
    this.forgetBelow(number + 1);
    if (made === undefined) return undefined;
    const { segment, line } = made;
    if (isAsPlanned(segment, this.plan) && hasLine(segment, line)) return segment;
    this.giveBack(segment);
    return undefined;
  }

  giveBack({ mapping }: Segment): void {
    const memory = mapping.handOver();
    if (memory !== undefined) giveBackMemory(memory);
  }

  async close(): Promise<void> {
    Atomics.store(this.wanted, 0, nothingWanted);
    this.forgetBelow(nothingWanted);
    // With a timer, because the thread keeps nobody from ending.
    while (this.asked.size > 0) {
      await pause(closeLookMs);
      hearReplies();
    }
    supplies.delete(this.id);
  }

  /** Takes in what the thread has made, or could not make. */
  receive({ number, memory }: PreallocationReply): void {
    this.asked.delete(number);
    if (memory === undefined) return;
    const isLate = number < (this.wanted[0] ?? 0);
    const segment = isLate ? undefined : this.adopt(number, memory);
    if (segment === undefined) giveBackMemory(memory);
    else this.made.set(number, { segment, line: segment.words.slice(0, lineWords) });
  }

  /** The thread has ended: what it was asked and has not made yet may be asked again. */
  forgetAsked(): void {
    this.asked.clear();
  }

  private ask(number: number): void {
    if (this.made.has(number) || this.asked.has(number)) return;
    const { id: supply, directory, plan, wanted } = this;
    if (post({ kind: "make", supply, directory, number, plan, wanted })) this.asked.add(number);
  }

  /** Only what is as planned: what others have begun meanwhile, or damaged, is dropped. */
  private adopt(number: number, memory: MappedMemory): Segment | undefined {
    const filePath = `${this.directory}/${segmentFileName(number)}`;
    const mapping = adoptMapping(memory, filePath);
    try {
      const segment = segmentOf(mapping, filePath, number, this.plan.identity);
      if (isAsPlanned(segment, this.plan)) return segment;
    } catch {
      // Whoever opens the file next says what is the matter with it.
    }
    mapping.handOver();
    return undefined;
  }

  private forgetBelow(end: number): void {
    for (const [number, { segment }] of this.made) {
      if (number >= end) continue;
      this.made.delete(number);
      this.giveBack(segment);
    }
  }
}

function hasLine({ words }: Segment, line: Int32Array): boolean {
  return line.every((word, index) => words[index] === word);
}

/** Files what has come since, without an event: the event loop of a publisher may not turn. */
function hearReplies(): void {
  for (let reply = thread?.take(); reply !== undefined; reply = thread?.take()) hear(reply);
}

function hear(reply: PreallocationReply): void {
  const supply = supplies.get(reply.supply);
  if (supply !== undefined) supply.receive(reply);
  // Its thread was given up, and has answered in the end.
  else if (reply.memory !== undefined) giveBackMemory(reply.memory);
}

/** As the event loop turns, or with the next wish: a roll has enough to do. */
function giveBackMemory(memory: MappedMemory): void {
  if (used.length === 0) setImmediate(unmapUsed);
  used.push(memory);
}

function unmapUsed(): void {
  for (const memory of used) {
    // The thread has too much to do, or has just died: it takes a millisecond here then.
    if (!post({ kind: "unmap", memory })) unmapMemory(memory);
  }
  used.length = 0;
}

function post(request: PreallocationRequest): boolean {
  thread ??= startSidecar(siblingModule("preallocation-worker", import.meta.url), undefined, {
    name: "gapless-preallocation",
    requestsMax,
    onReply: hear,
    onFailure: (error) => {
      for (const supply of supplies.values()) supply.forgetAsked();
      process.emitWarning(`${describeError(error)} Publishers make their segments themselves.`);
    },
  });
  return thread.post(request);
}
