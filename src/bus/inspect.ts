/**
 * What a channel is doing, as plain values: read from its memory, by an end of it or from outside.
 *
 * Nothing is stopped for this, so the values of one snapshot are some microseconds apart; each by
 * itself is whole. Whether an owner lives is read from /proc: some 20 µs for each.
 */
import { defaultHighWater } from "./backpressure.ts";
import { bootNs } from "../clock.ts";
import type { UnmetWish, Wish } from "../memory/wishes.ts";
import type { ChannelDescription } from "./description.ts";
import { haveFinished } from "./ending.ts";
import { silenceMs } from "./heartbeat.ts";
import { distance, type Lane } from "./lane.ts";
import { readLatency, type Latency } from "./latency.ts";
import {
  claimWord,
  consumerOffset,
  failed,
  floorWord,
  joining,
  partyOffset,
  producerOffset,
  unitBytes,
} from "./layout.ts";
import { countLosses, readLosses, type RecordedLoss } from "./losses.ts";
import { isOwnerAlive, ownerOf } from "./ownership.ts";
import { readUnmet } from "./unmet.ts";

export interface BusSnapshot {
  /** Nanoseconds since boot. */
  readonly atNs: number;
  /** Whose bus it is; undefined from outside. */
  readonly service: string | undefined;
  readonly channels: readonly ChannelSnapshot[];
  /** Files that are no channels of this version and boot. */
  readonly unreadable: readonly UnreadableFile[];
}

export interface UnreadableFile {
  readonly name: string;
  readonly reason: string;
}

export interface ChannelSnapshot extends ChannelDescription {
  /** One a level of priority, the lowest first. */
  readonly lanes: readonly LaneSnapshot[];
  /**
   * Share of a ring that may be used before backpressure begins, 0 to 1. A channel's file does not
   * tell it: from outside it is the default of its mode.
   */
  readonly highWater: number;
  /** With their reasons: only where this process has opened it. */
  readonly unmet: readonly UnmetWish[];
}

export interface LaneSnapshot {
  readonly priority: number;
  /** Newest sequence given out. */
  readonly sequence: number;
  /** Between the slowest consumer that counts and the newest claim. */
  readonly usedBytes: number;
  /** The same as a share of the ring, 0 to 1. */
  readonly utilisation: number;
  /** Between what may be overwritten and the newest message: what `tail --from-start` shows. */
  readonly keptBytes: number;
  /** How many there have been; `losses` are the newest of them, oldest first. */
  readonly lossesRecorded: number;
  readonly losses: readonly RecordedLoss[];
  readonly producers: readonly ProducerSnapshot[];
  readonly consumers: readonly ConsumerSnapshot[];
}

interface PartySnapshot {
  readonly name: string;
  /** Of its owner, dead or alive; undefined where it has none. */
  readonly pid: number | undefined;
  readonly isAlive: boolean;
  /**
   * Since it last did something or had nothing to do; before it comes, since the creation. 0 where
   * nobody says since when: a peer in another language has made the file.
   */
  readonly silenceMs: number;
  /** What its process wished of the memory and did not get. */
  readonly unmet: readonly Wish[];
  readonly messages: number;
  readonly bytes: number;
  readonly errors: number;
}

/**
 *   absent     nobody has ever been there
 *   active     it may write
 *   standby    it lives and has the end, has written nothing, and another one may write
 *   fenced     it lives and has written, and another one has taken over: it may write no longer
 *   finished   it has said that nothing will follow
 *   left       it has closed its end
 *   dead       its process is gone
 *
 * Who waits in `Bus.standby` takes its end only when its turn has come and leaves no trace before:
 * it is absent, or whatever the last owner of its end was.
 */
export type ProducerState =
  "absent" | "active" | "standby" | "fenced" | "finished" | "left" | "dead";

export interface ProducerSnapshot extends PartySnapshot {
  readonly state: ProducerState;
  readonly dropped: number;
  readonly rejected: number;
  /** How often it met the high-water mark. */
  readonly pressured: number;
  readonly writeLatency: Latency;
}

/**
 *   absent     nobody has ever been there
 *   reading    it holds what is behind its position
 *   joining    it is on its way back
 *   failed     producers go on without it
 *   ended      it has taken everything, and no producer has anything to follow
 *   left       it has closed its end; what it did not take is held for it
 *   dead       its process is gone; what it did not take is held for it
 */
export type ConsumerState = "absent" | "reading" | "joining" | "failed" | "ended" | "left" | "dead";

export interface ConsumerSnapshot extends PartySnapshot {
  readonly state: ConsumerState;
  /** Newest sequence released, or known to be lost. */
  readonly sequence: number;
  /** Sequences between that and the newest one, where there is anything to read. */
  readonly lag: number;
  /** Bytes of the ring, headers included, that it has still to read. */
  readonly lagBytes: number;
  readonly lost: number;
  readonly filtered: number;
  readonly endToEndLatency: Latency;
  readonly readLatency: Latency;
}

export function snapshotOf(
  channels: readonly ChannelSnapshot[],
  service?: string,
  unreadable: readonly UnreadableFile[] = [],
): BusSnapshot {
  return { atNs: bootNs(), service, channels, unreadable };
}

export function inspectChannel(
  description: ChannelDescription,
  lanes: readonly Lane[],
  unmet: readonly UnmetWish[],
): ChannelSnapshot {
  // Before any tail: where nothing will follow, the tails are the last ones.
  const isFinished = haveFinished(lanes);
  const seen = lanes.map((lane) => inspectLane(lane, description, isFinished));
  return { ...description, lanes: seen, highWater: highWaterOf(description, lanes), unmet };
}

function highWaterOf({ backpressure }: ChannelDescription, [lane]: readonly Lane[]): number {
  // Seen from outside, the settings of a lane are those of Reject, whatever its mode.
  const settings = lane?.channel.backpressure;
  if (settings?.mode === backpressure) return settings.highWater;
  return backpressure === "Reject" ? 1 : defaultHighWater;
}

function inspectLane(
  lane: Lane,
  description: ChannelDescription,
  isFinished: boolean,
): LaneSnapshot {
  const { words, doubles, channel, capacity } = lane;
  const producers = channel.producers.map((_name, index) => inspectProducer(lane, index));
  const consumers = channel.consumers.map((_name, index) => inspectConsumer(lane, index));
  // Positions before the tail, and that before the claims: what is read first is never ahead.
  const positions = channel.consumers.map((_name, index) =>
    Atomics.load(words, lane.consumer(index) + consumerOffset.position),
  );
  const floor = Atomics.load(words, floorWord);
  const { tail } = lane;
  const head = channel.producers.length > 1 ? Atomics.load(words, claimWord.claimed) : tail;
  const sequence = doubles[claimWord.sequence / 2] ?? 0;
  const kept = Math.min(capacity, distance(floor, tail));

  const overwrites = description.backpressure === "DropOldest";
  const counts = ({ state, isAlive }: ConsumerSnapshot): boolean =>
    overwrites ? isAlive : state !== "failed";
  const lags = consumers.map((consumer, index) =>
    counts(consumer) ? Math.min(capacity, distance(positions[index] ?? 0, head)) : 0,
  );
  const used = Math.max(overwrites ? 0 : distance(tail, head), ...lags);
  return {
    priority: lane.priority,
    sequence,
    usedBytes: used * unitBytes,
    utilisation: used / capacity,
    keptBytes: kept * unitBytes,
    lossesRecorded: countLosses(lane),
    losses: readLosses(lane),
    producers,
    consumers: consumers.map((consumer, index) => {
      const lagUnits = Math.min(kept, distance(positions[index] ?? 0, tail));
      const lag = lagUnits === 0 ? 0 : Math.max(0, sequence - consumer.sequence);
      const hasEnded = isFinished && lagUnits === 0 && consumer.state !== "absent";
      const state = hasEnded ? "ended" : consumer.state;
      return { ...consumer, state, lag, lagBytes: lagUnits * unitBytes };
    }),
  };
}

function inspectParty(lane: Lane, base: number, name: string): PartySnapshot {
  const { words } = lane;
  const pid = ownerOf(words, base + partyOffset.owner);
  return {
    name,
    pid,
    isAlive: pid !== undefined && isOwnerAlive(words, base + partyOffset.owner),
    silenceMs: words[base + partyOffset.heartbeat] === 0 ? 0 : silenceMs(words, base),
    unmet: readUnmet(lane, base),
    messages: 0,
    bytes: 0,
    errors: 0,
  };
}

function inspectProducer(lane: Lane, index: number): ProducerSnapshot {
  const { words, doubles, channel } = lane;
  const base = lane.producer(index);
  const counter = (offset: number): number => doubles[(base + offset) / 2] ?? 0;
  const party = inspectParty(lane, base, channel.producers[index] ?? "");
  return {
    ...party,
    state: producerState(lane, index, party),
    messages: counter(producerOffset.messages),
    bytes: counter(producerOffset.bytes),
    dropped: counter(producerOffset.dropped),
    rejected: counter(producerOffset.rejected),
    pressured: counter(producerOffset.pressured),
    errors: counter(producerOffset.errors),
    writeLatency: readLatency(words, base + producerOffset.writeLatency),
  };
}

function producerState(lane: Lane, index: number, party: PartySnapshot): ProducerState {
  const { words, doubles, channel } = lane;
  const base = lane.producer(index);
  if (Atomics.load(words, base + producerOffset.finished) !== 0) return "finished";
  if (party.pid === undefined) return hasBeenOwned(words, base) ? "left" : "absent";
  if (!party.isAlive) return "dead";
  if (!channel.hasBackup || Atomics.load(words, claimWord.active) === index) return "active";
  return (doubles[(base + producerOffset.messages) / 2] ?? 0) > 0 ? "fenced" : "standby";
}

function inspectConsumer(lane: Lane, index: number): ConsumerSnapshot {
  const { words, doubles, channel } = lane;
  const base = lane.consumer(index);
  const counter = (offset: number): number => doubles[(base + offset) / 2] ?? 0;
  const party = inspectParty(lane, base, channel.consumers[index] ?? "");
  return {
    ...party,
    state: consumerState(words, base, party),
    sequence: counter(consumerOffset.sequence),
    lag: 0,
    lagBytes: 0,
    messages: counter(consumerOffset.messages),
    bytes: counter(consumerOffset.bytes),
    lost: counter(consumerOffset.lost),
    filtered: counter(consumerOffset.filtered),
    errors: counter(consumerOffset.errors),
    endToEndLatency: readLatency(words, base + consumerOffset.endToEndLatency),
    readLatency: readLatency(words, base + consumerOffset.readLatency),
  };
}

function consumerState(words: Int32Array, base: number, party: PartySnapshot): ConsumerState {
  const state = Atomics.load(words, base + consumerOffset.state);
  if ((state & failed) !== 0) return "failed";
  if (party.pid !== undefined && !party.isAlive) return "dead";
  if ((state & joining) !== 0) return "joining";
  if (party.pid !== undefined) return "reading";
  return hasBeenOwned(words, base) ? "left" : "absent";
}

/** Whoever leaves gives up its process id, and the time that it started stays. */
function hasBeenOwned(words: Int32Array, base: number): boolean {
  const owner = base + partyOffset.owner;
  return words[owner + 1] !== 0 || words[owner + 2] !== 0;
}
