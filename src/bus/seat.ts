/**
 * A consumer's block of a lane: whose it is, whether producers count it, and what it has come to.
 */
import { consumerParty } from "./claim-lock.ts";
import { beatNow } from "./heartbeat.ts";
import { distance, type Lane } from "./lane.ts";
import { consumerOffset, failed, floorWord, joining, partyOffset, stateStep } from "./layout.ts";
import { recordLoss, type Loss } from "./losses.ts";
import { giveUpOwnership, takeOwnership } from "./ownership.ts";
import { settleTheDead } from "./settling.ts";

export class Seat {
  /** First word of the block. */
  readonly base: number;
  private readonly lane: Lane;
  private readonly words: Int32Array;
  private readonly consumer: number;

  constructor(lane: Lane, consumer: number) {
    this.lane = lane;
    this.words = lane.words;
    this.consumer = consumer;
    this.base = lane.consumer(consumer);
  }

  /** @throws GaplessError ALREADY_OPEN */
  take(): void {
    const { channel } = this.lane;
    const what = `Consumer ${channel.consumers[this.consumer] ?? ""} of channel ${channel.name}`;
    takeOwnership(this.words, this.base + partyOffset.owner, what);
    // The last owner's silence is not this one's.
    this.beat();
  }

  leave(): void {
    giveUpOwnership(this.words, this.base + partyOffset.owner);
  }

  beat(): void {
    beatNow(this.words, this.base);
  }

  /** Whether a producer has declared this consumer failed, since it last came or came back. */
  get hasFailed(): boolean {
    return (Atomics.load(this.words, this.base + consumerOffset.state) & failed) !== 0;
  }

  /** Everything below has been released. */
  get position(): number {
    return Atomics.load(this.words, this.base + consumerOffset.position);
  }

  /**
   * Goes on at the position that the last owner left. False where it has failed, or died before it
   * had a position to rely on.
   */
  resume(): boolean {
    const word = this.base + consumerOffset.state;
    const state = Atomics.load(this.words, word);
    if ((state & (failed | joining)) !== 0) return false;
    // The count changes, so a producer that is about to declare the last owner failed does not.
    const next = (state + stateStep) | 0;
    return Atomics.compareExchange(this.words, word, state, next) === state;
  }

  /**
   * Holds producers back again: at its old position where that is still there, else at the floor.
   * Once the state says joining, they count it at its position or at the floor; what they decided
   * before that is in the floor.
   */
  rejoin(): number {
    const { words, base } = this;
    const word = base + consumerOffset.state;
    // It is here: what has made it fail is over.
    this.beat();
    while (true) {
      const state = (Atomics.load(words, word) + stateStep) & ~(failed | joining);
      let position = this.position;
      // SYNC position-counts: pairs with the load of the state in Room.lagOf.
      Atomics.store(words, word, state | joining);
      while (true) {
        // SYNC floor-known: pairs with the store in Room.raiseFloor.
        const floor = Atomics.load(words, floorWord);
        // Not by which is less: it may have been away for longer than positions take to wrap.
        if (distance(floor, position) <= distance(floor, this.lane.tail)) break;
        position = floor;
        Atomics.store(words, base + consumerOffset.position, position);
      }
      const joined = state | joining;
      if (Atomics.compareExchange(words, word, joined, state) === joined) return position;
      // Declared failed again on its way, it begins again.
    }
  }

  /** For whoever waits: goes on behind what a dead producer has claimed. */
  settleTheDead(): void {
    if (this.lane.channel.producers.length > 1) {
      settleTheDead(this.lane, consumerParty(this.consumer));
    }
  }

  /** Whoever comes after a crash is told of a loss again, but it is counted once. */
  countLoss(loss: Loss): void {
    const from = Math.max(loss.from, this.counter(consumerOffset.lostThrough) + 1);
    if (from > loss.to) return;
    const messages = loss.to - from + 1;
    this.lane.doubles[(this.base + consumerOffset.lostThrough) / 2] = loss.to;
    this.add(consumerOffset.lost, messages);
    recordLoss(this.lane, { ...loss, from, messages });
  }

  counter(offset: number): number {
    return this.lane.doubles[(this.base + offset) / 2] ?? 0;
  }

  add(offset: number, count: number): void {
    const index = (this.base + offset) >>> 1;
    this.lane.doubles[index] = (this.lane.doubles[index] ?? 0) + count;
  }
}
