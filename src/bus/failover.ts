/** A backup producer, and when its turn has come. */
import { bootMs } from "../clock.ts";
import { lockedBy, producerParty } from "./claim-lock.ts";
import { announceBusEvent, placeOf } from "./events.ts";
import { silenceMs } from "./heartbeat.ts";
import type { Lane } from "./lane.ts";
import { claimWord, partyOffset, producerOffset } from "./layout.ts";
import { isOwnerAlive, isVacant } from "./ownership.ts";
import { SharedClaims } from "./shared-claims.ts";

/** So many looks in a row have to find a living predecessor silent: we may have been asleep. */
const silentLooks = 2;
/** So many have to find it at the same place of the same claim. */
const stuckLooks = 3;

/** One that waits for its turn; asked now and then. */
export class Standby {
  private readonly lane: Lane;
  private readonly producer: number;
  private readonly askedMs = bootMs();
  /** Who had finished before we asked, did so in an earlier run. */
  private readonly hadFinished: boolean;
  private silent = 0;
  private stuck = 0;
  private stuckAt = 0;

  constructor(lane: Lane, producer: number) {
    this.lane = lane;
    this.producer = producer;
    this.hadFinished = this.hasFinished(Atomics.load(lane.words, claimWord.active));
  }

  /**
   * Whether this producer is the one that writes, or the one that does is dead, or has been silent
   * for too long. One that has finished has not failed. One that has left, or never came, has as
   * long to come as it may be silent.
   */
  isDue(): boolean {
    const { words, channel } = this.lane;
    const active = Atomics.load(words, claimWord.active);
    if (active === this.producer) return true;
    // In a channel that is damaged: nobody.
    if (active < 0 || active >= channel.producers.length) return true;
    const base = this.lane.producer(active);
    if (this.hasFinished(active) && !this.hadFinished) return false;
    const { producerTimeoutMs } = channel;
    const owner = base + partyOffset.owner;
    if (isVacant(words, owner)) return bootMs() - this.askedMs >= producerTimeoutMs;
    if (!isOwnerAlive(words, owner)) return true;
    this.silent = silenceMs(words, base) > producerTimeoutMs ? this.silent + 1 : 0;
    if (this.silent < silentLooks) return false;
    return !this.isInTheMiddle(active);
  }

  private hasFinished(producer: number): boolean {
    const word = this.lane.producer(producer) + producerOffset.finished;
    return Atomics.load(this.lane.words, word) !== 0;
  }

  /**
   * Whether the predecessor was stopped in the few stores of a claim, with the lock. It would go on
   * with them when it wakes up, whatever has become of the ring, and nothing but its death keeps it
   * from that: so it is killed.
   */
  private isInTheMiddle(active: number): boolean {
    const { words } = this.lane;
    const pid = Atomics.load(words, this.lane.producer(active) + partyOffset.owner);
    if (Atomics.load(words, claimWord.lock) !== lockedBy(producerParty(active), pid)) return false;
    const claiming = Atomics.load(words, claimWord.claiming);
    this.stuck = claiming === this.stuckAt ? this.stuck + 1 : 1;
    this.stuckAt = claiming;
    if (this.stuck < stuckLooks || pid <= 0 || pid === process.pid) return true;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone, or not ours to kill: the next look finds it dead, or waits for it.
    }
    return true;
  }
}

/**
 * Makes `producer`, whose end this process has taken, the one that writes. Its predecessor, when it
 * wakes up, gets FENCED.
 */
export function takeOver(lane: Lane, producer: number): void {
  const active = Atomics.load(lane.words, claimWord.active);
  if (active === producer) return;
  new SharedClaims(lane, producer).takeOver(active);
  if (Atomics.load(lane.words, claimWord.active) !== producer) return;
  announceBusEvent(() => {
    const { producers } = lane.channel;
    const [from = "", to = ""] = [active, producer].map((index) => producers[index]);
    return { ...placeOf(lane), event: "failover", from, to };
  });
}
