/**
 * What of one level of priority of a channel comes from its recording: at first the window, later
 * whatever the ring has lost.
 *
 *   recording   | older than the window | window ............ through |
 *   ring                                              | released      | held | ...
 *
 * `through` is the newest sequence that this consumer had released: what follows it is in the ring.
 */
import type { Loss, SequenceRange } from "../bus/bus.ts";
import { followJournal, type JournalFollower } from "./journal-follower.ts";
import { decodeRecording, type Recording } from "./recording.ts";

export interface ReplayLaneOptions {
  readonly priority: number;
  readonly directory: string;
  readonly ring: number;
  readonly consumer: number;
  /** Newest sequence released by this consumer; 0 before the first. */
  readonly released: number;
  /** Messages recorded since then are replayed; undefined: none is. */
  readonly sinceNs: bigint | undefined;
  readonly recorderTimeoutMs: number;
  readonly onLoss: (loss: Loss) => void;
  readonly onWithdrawn: (range: SequenceRange) => void;
}

const batchMax = 256;

export class ReplayLane {
  readonly priority: number;
  /** Sequence that is to be delivered next; 0 while that is not known. */
  next: number;

  private readonly options: ReplayLaneOptions;
  private readonly journal: JournalFollower;
  /** Of the recording that comes next. */
  private nextId: bigint;
  private through: number;
  private isReplaying: boolean;
  /** What was recorded in former rings counts as well. */
  private isFirst: boolean;
  private progressedMs = performance.now();

  constructor(options: ReplayLaneOptions) {
    const { released, sinceNs } = options;
    this.options = options;
    this.priority = options.priority;
    this.journal = followJournal(options.directory);
    this.through = released;
    this.isReplaying = sinceNs !== undefined;
    this.isFirst = this.isReplaying;
    this.nextId = sinceNs === undefined ? 1n : this.journal.find(sinceNs);
    const [before] = this.nextId > 1n && this.isFirst ? this.journal.read(this.nextId - 1n, 1) : [];
    const recording = before === undefined ? undefined : decodeRecording(before.bytes);
    // What was never released is wanted however old it is; of what is not recorded yet, nothing is
    // older than the window.
    if (recording?.ring === options.ring) this.next = Math.min(recording.sequence, released) + 1;
    else this.next = this.isFirst && released > 0 ? 0 : released + 1;
  }

  /** Whether something has to come from the recording before the ring is gone on with. */
  get isBehind(): boolean {
    return this.isReplaying;
  }

  /** The ring goes on behind `through`, and what is before that is missing. */
  fillThrough(through: number): void {
    this.through = through;
    this.isReplaying = true;
    this.progressedMs = performance.now();
    this.nextId = this.seek(this.next);
  }

  /**
   * Hands recordings to `deliver` until it has wanted `limit` of them, and returns how many it did.
   * One that it throws on is not taken.
   */
  replay(deliver: (recording: Recording) => boolean, limit: number): number {
    let count = 0;
    while (this.isReplaying && count < limit) {
      const messages = this.journal.read(this.nextId, Math.min(batchMax, limit - count));
      if (messages.length === 0) {
        this.endOrWait();
        break;
      }
      for (const { id, bytes } of messages) {
        const recording = decodeRecording(bytes);
        if (!this.takes(recording)) break;
        const isOfThisRing = recording.ring === this.options.ring;
        const isNew = isOfThisRing ? recording.sequence >= this.next : this.isFirst;
        if (isNew && deliver(recording)) count++;
        if (isNew && isOfThisRing) this.next = recording.sequence + 1;
        this.nextId = id + 1n;
      }
      this.progressedMs = performance.now();
    }
    return count;
  }

  close(): void {
    this.journal.close();
  }

  /** False where it is behind what was to be replayed: that has ended then. */
  private takes({ ring, sequence, missingBefore }: Recording): boolean {
    if (ring !== this.options.ring || sequence < this.next) return true;
    const isPast = sequence > this.through;
    const end = isPast ? this.through : sequence - 1;
    const isWithdrawn = missingBefore === "withdrawn";
    if (this.next === 0 && (isWithdrawn || missingBefore === undefined)) this.next = end + 1;
    if (this.next <= end) {
      const from = Math.max(1, this.next);
      if (isWithdrawn) this.options.onWithdrawn({ from, to: end });
      else this.lose(from, end, missingBefore ?? "overwritten");
      this.next = end + 1;
    }
    if (isPast) this.end();
    return !isPast;
  }

  /** Nothing more is recorded yet. */
  private endOrWait(): void {
    if (this.next > this.through || this.through === 0) {
      this.end();
    } else if (performance.now() - this.progressedMs >= this.options.recorderTimeoutMs) {
      this.lose(Math.max(1, this.next), this.through, "overwritten");
      this.end();
    }
  }

  private lose(from: number, to: number, cause: Loss["cause"]): void {
    const { consumer: party, onLoss } = this.options;
    onLoss({ cause, party, from, to, messages: to - from + 1 });
    this.next = to + 1;
  }

  private end(): void {
    this.isReplaying = false;
    this.isFirst = false;
    this.next = Math.max(this.next, this.through + 1);
  }

  /** Id of the first recording of this ring whose sequence is at least `sequence`. */
  private seek(sequence: number): bigint {
    let low = this.nextId;
    let step = 1n;
    for (; this.isBefore(low + step, sequence); step *= 2n) low += step;
    let high = low + step;
    while (low < high) {
      const middle = (low + high) / 2n;
      if (this.isBefore(middle, sequence)) low = middle + 1n;
      else high = middle;
    }
    return low;
  }

  private isBefore(id: bigint, sequence: number): boolean {
    const [message] = this.journal.read(id, 1);
    if (message === undefined) return false;
    const recording = decodeRecording(message.bytes);
    return recording.ring !== this.options.ring || recording.sequence < sequence;
  }
}
