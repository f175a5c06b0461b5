/**
 * A partition of Kafka as the live source of a flow.
 *
 * Kafka keeps one number for a group: the offset of the next record that it wants. It is committed
 * when a message is acknowledged, and never otherwise, as the offset of that message's record + 1.
 * A start begins there, and so at everything that was delivered and not acknowledged. What of it
 * the sink has committed all the same is recognised by the chain.
 *
 * Where no offset was ever committed, or Kafka has forgotten it (`offsets.retention.minutes`), a
 * start begins with the oldest record there is: the chain drops what is known, and shows what
 * Kafka no longer has.
 */
import { GaplessError } from "../errors.ts";
import type { Source } from "../flow/endpoints.ts";
import { isBatch, type Batch } from "../message.ts";
import { resolveKafkaOptions, type KafkaSourceOptions } from "./kafka-options.ts";
import type { ResolvedKafkaOptions } from "./kafka-options.ts";
import { neverCommitted, type KafkaPartition, type OutOfRange } from "./kafka-partition.ts";
import { abortLater, persist } from "./kafka-persistence.ts";
import { decodeRecords } from "./kafka-records.ts";
import { GroupSeat } from "./kafka-seat.ts";
import { DeliveryWindow } from "./kafka-window.ts";

export type { KafkaSasl, KafkaSourceOptions } from "./kafka-options.ts";
export { decodeMessage, type KafkaRecord } from "./kafka-records.ts";

/** Closing leaves the group, so that a standby goes on at once. It is idempotent. */
export interface KafkaSource extends Source, AsyncDisposable {}

/** So long a commit is tried once the iteration is to end. */
const commitMsMax = 2000;
/** A fetch waits no longer, so that a partition that was lost is soon noticed. */
const fetchWaitMsMax = 1000;

/**
 * Reads the partition as a member of the group, from the first `live()` until it is closed.
 *
 * - `pending()` yields nothing: Kafka does not tell what was delivered before from what is new.
 *   `live()` begins with it.
 * - `live()` waits, for as long as it takes, until the partition is this member's: the group gives
 *   it to one at a time, who keeps it, and the others stand by. It then yields batches in the
 *   order of the partition, and `null` after a silence, but not while it stands by or the brokers
 *   are away: nothing can be said of what is missing then. A second one begins again at the
 *   committed offset; one at a time.
 * - `acknowledge()` returns when the offset is committed. It is tried until it is, across a restart
 *   of the brokers; the signal of `live()` ends that soon, with PEER_UNAVAILABLE.
 *
 * @throws GaplessError CONFIG_INVALID naming the option. `live()` and `acknowledge()` throw
 *   FENCED where another member has got the partition; `live()` DATA_TRIMMED where Kafka has
 *   deleted what comes next, CHAIN_BROKEN where the partition ends before the committed offset,
 *   INPUT_MALFORMED for a record that does not decode, behind everything before it,
 *   DATA_NOT_YET_AVAILABLE where there is no such topic, CONFIG_INVALID for what the brokers
 *   refuse or where the package `@platformatic/kafka` is not installed, and CLOSED.
 */
export function kafkaSource(options: KafkaSourceOptions): KafkaSource {
  return new PartitionSource(resolveKafkaOptions(options));
}

class PartitionSource implements KafkaSource {
  private readonly options: ResolvedKafkaOptions;
  private readonly closing = new AbortController();
  private readonly seat: GroupSeat;
  private readonly window = new DeliveryWindow();
  private opening: Promise<KafkaPartition> | undefined;
  private isLive = false;
  /** Of the iteration of live(). */
  private ending: AbortSignal;

  constructor(options: ResolvedKafkaOptions) {
    this.options = options;
    this.ending = this.closing.signal;
    this.seat = new GroupSeat(options, this.closing.signal);
  }

  async *pending(): AsyncGenerator<Batch> {
    // What lies behind the committed offset comes with the first batches of `live`.
  }

  async *live(signal: AbortSignal): AsyncGenerator<Batch | null> {
    this.requireOpen();
    if (this.isLive) {
      throw new GaplessError(
        "INVALID_OPERATION",
        "A Kafka source is live already: end that iteration before another one.",
      );
    }
    this.isLive = true;
    try {
      const ending = AbortSignal.any([signal, this.closing.signal]);
      this.ending = signal;
      this.window.clear();
      this.opening ??= this.seat.open();
      const partition = await this.opening;
      if (await this.seat.holds(ending)) yield* this.read(partition, ending);
    } finally {
      this.isLive = false;
    }
  }

  private async *read(
    partition: KafkaPartition,
    signal: AbortSignal,
  ): AsyncGenerator<Batch | null> {
    const { silenceMs } = this.options;
    let offset: bigint | undefined = this.seat.committedOffset;
    if (offset === neverCommitted) {
      offset = (await this.ask(() => partition.range(), signal))?.earliest;
    }
    let waitMs = silenceMs.first;
    let silentSinceMs = performance.now();
    while (offset !== undefined) {
      const leftMs = Math.max(silentSinceMs + waitMs - performance.now(), 1);
      const from: bigint = offset;
      const fetchMs = Math.ceil(Math.min(leftMs, fetchWaitMsMax));
      const fetched = await this.ask(() => partition.fetch(from, fetchMs), signal);
      // What was fetched meanwhile may be another one's by now.
      if (fetched === undefined || !(await this.seat.holds(signal))) return;
      if ("earliest" in fetched) {
        offset = this.afterTrim(from, fetched);
        continue;
      }
      const { messages, offsets, fault } = decodeRecords(fetched.records, this.options.decode);
      for (let start = 0; start < messages.length; start += this.options.batchMax) {
        const batch = messages.slice(start, start + this.options.batchMax);
        if (!isBatch(batch)) break;
        this.window.push(batch, offsets.slice(start, start + batch.length));
        yield batch;
        if (!(await this.seat.holds(signal))) return;
      }
      if (fault !== undefined) throw fault;
      offset = fetched.nextOffset;
      if (messages.length > 0) {
        waitMs = silenceMs.first;
        silentSinceMs = performance.now();
      } else if (performance.now() - silentSinceMs >= waitMs) {
        waitMs = Math.min(waitMs * 2, silenceMs.most);
        yield null;
        silentSinceMs = performance.now();
      }
    }
  }

  async acknowledge(throughId: bigint): Promise<void> {
    this.requireOpen();
    const offset = this.window.acknowledge(throughId);
    if (offset === undefined) return;
    using later = abortLater(this.ending, commitMsMax);
    await this.seat.commit(offset, AbortSignal.any([later.signal, this.closing.signal]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closing.abort();
    const partition = await this.opening?.catch(() => undefined);
    await partition?.close();
  }

  private ask<Result>(
    call: () => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result | undefined> {
    return persist(call, this.options, signal);
  }

  /** Where to go on although `offset` is not there. */
  private afterTrim(offset: bigint, { earliest, latest }: OutOfRange): bigint {
    const { topic, partition, group, whenTrimmed } = this.options;
    const where =
      `topic=${topic}, partition=${partition}, group=${group}, offset=${offset.toString()}, ` +
      `earliest=${earliest.toString()}, latest=${latest.toString()}`;
    if (offset > latest) {
      throw new GaplessError(
        "CHAIN_BROKEN",
        `The partition ends before what was already read of it: ${where}. The topic was made ` +
          "anew, or its brokers have lost records: set the offset of the group to where this " +
          "stream goes on.",
      );
    }
    if (whenTrimmed === "earliest") return earliest;
    throw new GaplessError(
      "DATA_TRIMMED",
      `Kafka has deleted what comes next: ${where}. Nothing was skipped. Where an archive has ` +
        'the messages, go on with whenTrimmed "earliest".',
    );
  }

  private requireOpen(): void {
    if (!this.closing.signal.aborted) return;
    throw new GaplessError("CLOSED", `The source of topic ${this.options.topic} was closed.`);
  }
}
