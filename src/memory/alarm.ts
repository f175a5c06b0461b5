/**
 * Sleeping on words of many others, and being woken by this process as well.
 *
 * A word of its own is slept on along with them. So an abort, a close or the end of the process
 * wakes the one who sleeps here, and none of those who sleep on the others' words.
 */
import {
  futexWaitAny,
  futexWaitAnyAsync,
  futexWake,
  hasChanged,
  type AwaitedWord,
} from "./futex.ts";
import { addressOf } from "./libc.ts";
import { borrowPoolThread, lookNowAndThen } from "./pool-threads.ts";

export class Alarm {
  // The smallest typed arrays move about: not those over a buffer.
  private readonly words = new Int32Array(new ArrayBuffer(64));
  private readonly address = addressOf(this.words.buffer);

  /** Wakes who sleeps here. */
  ring(): void {
    Atomics.add(this.words, 0, 1);
    futexWake(this.address);
  }

  /**
   * Resolves when one of the words changes, the alarm rings or the time is up, and now and then
   * sooner. The event loop stays free.
   */
  async sleep(others: readonly AwaitedWord[], timeoutMs: number): Promise<void> {
    const words = [this.ownWord(), ...others];
    const giveBack = borrowPoolThread(() => this.ring());
    if (giveBack === undefined) return lookNowAndThen(() => words.some(hasChanged), timeoutMs);
    await futexWaitAnyAsync(words, timeoutMs);
    giveBack();
  }

  /** The same for a thread of its own. */
  sleepBlocking(others: readonly AwaitedWord[], timeoutMs: number): void {
    futexWaitAny([this.ownWord(), ...others], timeoutMs);
  }

  private ownWord(): AwaitedWord {
    const { words, address } = this;
    return { words, index: 0, address, expected: Atomics.load(words, 0) };
  }
}
