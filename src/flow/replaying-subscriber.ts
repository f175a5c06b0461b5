/**
 * A consumer that has lost its state and builds it anew: first what was recorded within the last
 * `replay_window_ms`, then, from the sequence that follows, what the ring holds and what comes.
 *
 *     const orders = replayingSubscriber(bus, "orders");
 *     for await (const batch of orders.batches(signal)) apply(batch);
 *
 * The two meet without a gap and without a duplicate: sequences say where. Where producers went on
 * without this consumer and the ring has lost messages, the recording fills that gap as well. What
 * the recorder has not come to yet is waited for; what cannot be had is told as a loss.
 */
import { setTimeout as pause } from "node:timers/promises";
import type {
  BusMessage,
  Bus,
  Loss,
  SequenceRange,
  Subscriber,
  SubscriberOptions,
} from "../bus/bus.ts";
import { systemClock, type Clock } from "../clock.ts";
import { isGaplessError } from "../errors.ts";
import { findRecorded, type Recording } from "./recording.ts";
import { ReplayLane } from "./replay-lane.ts";

export interface ReplayOptions extends SubscriberOptions {
  /** Instead of the channel's `replay_window_ms`. 0: no window, but gaps are filled. */
  readonly windowMs?: number;
  /** How long a recorder that makes no progress is waited for. It may be starting again. */
  readonly recorderTimeoutMs?: number;
  readonly clock?: Clock;
}

export interface ReplayMessage extends BusMessage {
  readonly priority: number;
  /** Whether it comes from the recording. */
  readonly isReplayed: boolean;
}

/**
 * Opens this service's consuming end of a channel that is recorded.
 *
 * @throws GaplessError CONFIG_INVALID where it is not, and what `Bus.subscriber` throws
 */
export function replayingSubscriber(
  bus: Bus,
  name: string,
  options: ReplayOptions = {},
): ReplayingSubscriber {
  return new ReplayingSubscriber(bus, name, options);
}

interface Held extends ReplayMessage {
  /** What the ring said of the sequences before it. */
  readonly loss: Loss | undefined;
  readonly withdrawn: SequenceRange | undefined;
}

const recorderTimeoutMsDefault = 5000;
const recorderNapMs = 5;
const waitMs = 250;
const batchMax = 256;

export class ReplayingSubscriber {
  private readonly subscriber: Subscriber;
  /** The highest priority first. */
  private readonly lanes: readonly ReplayLane[];
  private readonly producers: readonly string[];
  private readonly topics: readonly string[];
  private readonly onLoss: (loss: Loss) => void;
  private readonly onWithdrawn: (range: SequenceRange) => void;
  /** Taken from the ring and not handed over yet, oldest first. */
  private held: Held[] = [];
  private loss: Loss | undefined;
  private withdrawn: SequenceRange | undefined;

  /** Use `replayingSubscriber`. */
  constructor(bus: Bus, name: string, options: ReplayOptions) {
    const recorded = findRecorded(bus, name);
    const { channel } = recorded;
    const {
      topics = [],
      onLoss = () => undefined,
      onWithdrawn = () => undefined,
      clock = systemClock,
      windowMs = channel.recovery?.replayWindowMs ?? 0,
      recorderTimeoutMs = recorderTimeoutMsDefault,
      ...rest
    } = options;
    this.producers = channel.producers;
    this.topics = topics;
    this.onLoss = onLoss;
    this.onWithdrawn = onWithdrawn;
    // Before anything is read of the recording: from here on the ring holds what follows.
    this.subscriber = bus.subscriber(name, {
      ...rest,
      onLoss: (loss) => (this.loss = loss),
      onWithdrawn: (range) => (this.withdrawn = range),
    });
    try {
      this.lanes = Array.from({ length: channel.priorities }, (_unused, priority) => {
        return new ReplayLane({
          priority,
          directory: recorded.journalDirectory(priority),
          ring: bus.identity(name),
          consumer: channel.consumers.indexOf(bus.service),
          released: this.subscriber.taken(priority),
          sinceNs: windowMs > 0 ? clock.nowNs() - BigInt(windowMs) * 1_000_000n : undefined,
          recorderTimeoutMs,
          onLoss,
          onWithdrawn,
        });
      }).reverse();
    } catch (error) {
      this.subscriber.close();
      throw error;
    }
  }

  /** Whether what is handed over next comes from the ring. */
  get isLive(): boolean {
    return !this.lanes.some((lane) => lane.isBehind);
  }

  /** Whether everything was handed over and no producer has anything to follow. */
  get ended(): boolean {
    return this.isLive && this.held.length === 0 && this.subscriber.ended;
  }

  /**
   * Hands up to `limit` messages to `handler` and returns how many; those of a higher priority
   * first. It never waits. The bytes are copies. Where the handler throws, the message that it
   * threw on is not taken. They come again after a crash, until `release` and beyond it: as long
   * as they are in the window.
   *
   * @throws GaplessError STORAGE_CORRUPT, CLOSED
   */
  poll(handler: (message: ReplayMessage) => void, limit: number): number {
    let count = 0;
    while (count < limit) {
      const lane = this.lanes.find((one) => one.isBehind);
      if (lane !== undefined) {
        const deliver = (recording: Recording): boolean => {
          if (!this.wants(recording.topic)) return false;
          handler(this.messageOf(recording, lane.priority));
          return true;
        };
        count += lane.replay(deliver, limit - count);
        if (lane.isBehind) break;
      } else if (this.held.length > 0) {
        count += this.handOver(handler, limit - count);
      } else if (!this.take(limit - count)) {
        break;
      }
    }
    return count;
  }

  /** Lets producers overwrite what was handed over. */
  release(): void {
    // The ring releases what was taken as a whole.
    if (this.held.length === 0) this.subscriber.release();
  }

  /** Waits until there may be something to poll, the stream ends, or the time is up. */
  async wait(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (this.isLive) return this.subscriber.wait(timeoutMs, signal);
    const napMs = Math.min(timeoutMs, recorderNapMs);
    await pause(napMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }

  /**
   * Batches as they come, until the stream has ended, the signal aborts or the loop is left. A
   * batch is released by the step after it.
   */
  async *batches(signal?: AbortSignal): AsyncGenerator<readonly ReplayMessage[], void, void> {
    while (signal?.aborted !== true) {
      const batch: ReplayMessage[] = [];
      this.poll((message) => batch.push(message), batchMax);
      if (batch.length > 0) {
        yield batch;
        this.release();
      } else {
        if (this.ended) return;
        await this.wait(waitMs, signal);
      }
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<readonly ReplayMessage[], void, void> {
    return this.batches();
  }

  /** Leaves the end, as `Subscriber.close`. Idempotent. */
  close(): void {
    this.subscriber.close();
    for (const lane of this.lanes) lane.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Takes messages from the ring. False where there are none. */
  private take(limit: number): boolean {
    const { subscriber } = this;
    const { envelope } = subscriber;
    const taken: Held[] = [];
    try {
      subscriber.poll(({ bytes }, offset, length) => {
        const { sequence, producer, topic, priority } = envelope;
        const { loss, withdrawn } = this;
        this.loss = undefined;
        this.withdrawn = undefined;
        const copy = bytes.slice(offset, offset + length);
        const place = { sequence, producer, topic, priority };
        taken.push({ ...place, bytes: copy, isReplayed: false, loss, withdrawn });
      }, limit);
    } catch (error) {
      // The ring has lost them while they were read. What comes next shows which.
      if (!isGaplessError(error, "MESSAGES_LOST")) throw error;
      this.loss = undefined;
      this.withdrawn = undefined;
      return true;
    }
    this.held = taken;
    return taken.length > 0;
  }

  /** Hands over what was taken, as far as nothing is missing in between. */
  private handOver(handler: (message: ReplayMessage) => void, limit: number): number {
    let count = 0;
    let index = 0;
    try {
      for (const { loss, withdrawn, ...message } of this.held) {
        if (count === limit) break;
        const lane = this.lanes.find(({ priority }) => priority === message.priority);
        if (lane === undefined || message.sequence >= lane.next) {
          if (lane !== undefined && message.sequence > lane.next) {
            const isTakenBack = withdrawn?.from === lane.next;
            const next = isTakenBack ? withdrawn.to + 1 : lane.next;
            const isNothing = loss?.cause === "skipped" && loss.from === next;
            if (!isNothing && next < message.sequence) {
              lane.fillThrough(message.sequence - 1);
              break;
            }
            if (isTakenBack) this.onWithdrawn(withdrawn);
            if (isNothing) this.onLoss(loss);
          }
          if (this.wants(message.topic)) {
            handler(message);
            count++;
          }
          if (lane !== undefined) lane.next = message.sequence + 1;
        }
        index++;
      }
    } finally {
      this.held = this.held.slice(index);
    }
    return count;
  }

  private messageOf(recording: Recording, priority: number): ReplayMessage {
    const { bytes, sequence, topic } = recording;
    const producer = this.producers[recording.producer] ?? "";
    return { bytes, sequence, producer, topic, priority, isReplayed: true };
  }

  private wants(topic: string): boolean {
    return this.topics.length === 0 || this.topics.some((prefix) => topic.startsWith(prefix));
  }
}
