/**
 * One partition at the brokers, and the offset that its group has committed: each call one try.
 *
 * Two clients: a broker answers the requests of a connection one after the other, so that a fetch
 * which waits for messages would hold up heartbeats and commits. Neither tries anything again by
 * itself: the library would rejoin the group on its own when a commit is refused, and then commit
 * in the name of a membership that was never asked whether the partition is still its own.
 */
import type { Consumer, ConsumerOptions, GroupOptions } from "@platformatic/kafka";
import { GaplessError } from "../errors.ts";
import { assignPartitions, encodeWish, protocolName } from "./kafka-assignment.ts";
import { isAnswer, isLibraryError, isUserError } from "./kafka-errors.ts";
import type { ResolvedKafkaOptions } from "./kafka-options.ts";
import { malformed, readRecords, type KafkaRecords } from "./kafka-records.ts";

/** Told of what happens to a membership. */
export interface MembershipListener {
  /** A generation of the group has begun: whether the partition is this member's in it. */
  joined(generation: number, isAssigned: boolean): void;
  /** A heartbeat is sent. */
  heartbeatSent(): void;
  /** The heartbeat that was sent is answered: the membership stood when the broker got it. */
  heartbeatAnswered(): void;
  /** It is sent again. */
  heartbeatFailed(error: Error): void;
  /** The library has given up: `join` has to be called again. */
  expelled(error: Error): void;
}

/** The offset asked for is not in the partition. */
export interface OutOfRange {
  readonly earliest: bigint;
  readonly latest: bigint;
}

/** Of a group that has committed nothing in this partition. */
export const neverCommitted = -1n;

const packageName = "@platformatic/kafka";
const readCommitted = 1;
const timestampEarliest = -2n;
const timestampLatest = -1n;
/** Heartbeats in the time that a member may be silent. */
const heartbeatsASession = 4;
/** On top of what a broker may hold an answer back for. */
const answerMs = 5000;

/** Loads the client library: a peer dependency that only users of Kafka install. */
async function loadLibrary(): Promise<typeof import("@platformatic/kafka")> {
  try {
    return await import("@platformatic/kafka");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new GaplessError(
      "CONFIG_INVALID",
      `A Kafka source needs the package ${packageName}: npm install ${packageName}.`,
      { cause: error },
    );
  }
}

export class KafkaPartition {
  private readonly options: ResolvedKafkaOptions;
  private readonly reader: Consumer;
  private readonly member: Consumer;
  private readonly groupOptions: () => GroupOptions;

  /**
   * Connects with the first call, not here.
   *
   * @param heldSince Asked at each join: see kafka-assignment.ts.
   * @throws GaplessError CONFIG_INVALID where the client library is not installed.
   */
  static async open(
    options: ResolvedKafkaOptions,
    listener: MembershipListener,
    heldSince: () => number,
  ): Promise<KafkaPartition> {
    const { Consumer } = await loadLibrary();
    const { sessionTimeoutMs, requestTimeoutMs } = options;
    const common = {
      groupId: options.group,
      clientId: options.clientId,
      bootstrapBrokers: [...options.bootstrap],
      retries: 0,
      autocommit: false,
      connectTimeout: requestTimeoutMs,
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      ...(options.sasl === undefined ? {} : { sasl: { ...options.sasl } }),
    } satisfies Partial<ConsumerOptions<Buffer, Buffer, Buffer, Buffer>>;
    const group = {
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: sessionTimeoutMs,
      heartbeatInterval: Math.ceil(sessionTimeoutMs / heartbeatsASession),
      protocols: [{ name: protocolName, version: 0 }],
    } satisfies GroupOptions;
    const reader = new Consumer({ ...common, ...group, requestTimeout: requestTimeoutMs });
    const member = new Consumer({
      ...common,
      ...group,
      // A join is answered when all others have joined, too.
      requestTimeout: Math.max(requestTimeoutMs, sessionTimeoutMs + answerMs),
    });
    return new KafkaPartition(options, reader, member, listener, () => ({
      ...group,
      protocolsMetadata: () => encodeWish({ partition: options.partition, heldSince: heldSince() }),
      partitionAssigner: (_current, members) => assignPartitions(members.values()),
    }));
  }

  private constructor(
    options: ResolvedKafkaOptions,
    reader: Consumer,
    member: Consumer,
    listener: MembershipListener,
    groupOptions: () => GroupOptions,
  ) {
    this.options = options;
    this.reader = reader;
    this.member = member;
    this.groupOptions = groupOptions;
    // Each request of a client looks up what it knows of the topics that it tracks.
    reader.topics.track(options.topic);
    member.topics.track(options.topic);
    member.on("consumer:group:join", ({ generationId = 0, assignments = [] }) => {
      const isAssigned = assignments.some(
        ({ topic, partitions }) =>
          topic === options.topic && partitions.includes(options.partition),
      );
      listener.joined(generationId, isAssigned);
    });
    member.on("consumer:heartbeat:start", () => listener.heartbeatSent());
    member.on("consumer:heartbeat:end", () => listener.heartbeatAnswered());
    member.on("consumer:heartbeat:error", ({ error }) => listener.heartbeatFailed(error));
    // The library has no other use of it: a rejoin that it began by itself has failed.
    (member as NodeJS.EventEmitter).on("error", (error: Error) => listener.expelled(error));
  }

  /** Joins the group; `MembershipListener.joined` says with which result. */
  async join(): Promise<void> {
    await this.describe();
    await this.member.joinGroup(this.groupOptions());
  }

  /** Lets the others of the group go on at once. Where it cannot say so, they find out. */
  async leave(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.member.leaveGroup(true, () => resolve(undefined));
    await promise;
  }

  /** The offset of the next record that the group asks for, or `neverCommitted`. */
  async committed(): Promise<bigint> {
    const { topic, partition } = this.options;
    const topics = [{ topic, partitions: [partition] }];
    const committed = await this.member.listCommittedOffsets({ topics });
    return committed.get(topic)?.[partition] ?? neverCommitted;
  }

  async commit(offset: bigint): Promise<void> {
    const { topic, partition } = this.options;
    await this.member.commit({ offsets: [{ topic, partition, offset, leaderEpoch: -1 }] });
  }

  /**
   * The records from `fromOffset` on, after `waitMs` perhaps none.
   *
   * @throws GaplessError INPUT_MALFORMED where their bytes make no sense.
   */
  async fetch(fromOffset: bigint, waitMs: number): Promise<KafkaRecords | OutOfRange> {
    const { topic, partition, fetchBytesMax } = this.options;
    const { id, leader } = await this.describe();
    const wanted = {
      partition,
      fetchOffset: fromOffset,
      partitionMaxBytes: fetchBytesMax,
      currentLeaderEpoch: -1,
      lastFetchedEpoch: -1,
    };
    try {
      const answer = await this.reader.fetch({
        node: leader,
        topics: [{ topicId: id, partitions: [wanted] }],
        maxWaitTime: waitMs,
        minBytes: 1,
        maxBytes: fetchBytesMax,
        isolationLevel: readCommitted,
      });
      const ours = answer.responses
        .flatMap(({ partitions }) => partitions)
        .find(({ partitionIndex }) => partitionIndex === partition);
      return readRecords(
        { topic, partition },
        fromOffset,
        ours?.records ?? [],
        ours?.abortedTransactions ?? [],
      );
    } catch (error) {
      if (isAnswer(error, "OFFSET_OUT_OF_RANGE")) {
        const range = await this.range();
        if (fromOffset < range.earliest || fromOffset > range.latest) return range;
      }
      // Where the leader has moved to, or that the topic is another one now.
      this.reader.clearMetadata();
      throw isLibraryError(error) ? error : malformed(this.options, fromOffset, error);
    }
  }

  /** The oldest offset that is there, and the one behind the newest. */
  async range(): Promise<OutOfRange> {
    const [earliest, latest] = await Promise.all([
      this.offsetAt(timestampEarliest),
      this.offsetAt(timestampLatest),
    ]);
    return { earliest, latest };
  }

  private async offsetAt(timestamp: bigint): Promise<bigint> {
    const { topic, partition } = this.options;
    const asked = { topics: [topic], partitions: { [topic]: [partition] }, timestamp };
    const offset = (await this.reader.listOffsets(asked)).get(topic)?.[partition];
    if (offset === undefined) throw new Error(`no answer about partition ${partition} of ${topic}`);
    return offset;
  }

  /** @throws GaplessError DATA_NOT_YET_AVAILABLE, or CONFIG_INVALID for a partition too many. */
  private async describe(): Promise<{ id: string; leader: number }> {
    const { topic, partition } = this.options;
    try {
      const known = (await this.reader.metadata({ topics: [topic] })).topics.get(topic);
      const leader = known?.partitions[partition]?.leader;
      if (known === undefined) throw this.unknownTopic();
      if (leader !== undefined) return { id: known.id, leader };
      throw new GaplessError(
        "CONFIG_INVALID",
        `partition=${partition} of a Kafka source: topic ${topic} has partitions 0 to ` +
          `${known.partitionsCount - 1}.`,
      );
    } catch (error) {
      throw isUserError(error) ? this.unknownTopic(error) : error;
    }
  }

  private unknownTopic(cause?: unknown): GaplessError {
    return new GaplessError(
      "DATA_NOT_YET_AVAILABLE",
      `Kafka at ${this.options.bootstrap.join(", ")} has no topic ${this.options.topic}. ` +
        "Make it with one partition a stream, then try again.",
      { cause },
    );
  }

  /** Leaves the group, and ends what is under way. */
  async close(): Promise<void> {
    await Promise.allSettled([this.member.close(true), this.reader.close(true)]);
  }
}
