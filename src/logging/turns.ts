/** Who drains: the sidecar, pass by pass, until a thread that ends takes its turn for good. */
import { bootMs } from "../clock.ts";
import { drainer, logWord } from "./layout.ts";

/** A pass that takes longer hangs in a device, or its thread was ended in the middle of it. */
const passMsMax = 2000;

/** Does a pass as the sidecar; false, and not done, where another drains for good. */
export function takeTurn(words: Int32Array, pass: () => boolean): boolean {
  const { nobody, sidecar } = drainer;
  // SYNC log-turn: what the one before has drained; pairs with the exchange below and takeLastTurn.
  if (Atomics.compareExchange(words, logWord.drainer, nobody, sidecar) !== nobody) return false;
  try {
    return pass();
  } finally {
    endTurn(words);
  }
}

/** Of the sidecar: also what the one before it was doing when it died. */
export function endTurn(words: Int32Array): void {
  Atomics.compareExchange(words, logWord.drainer, drainer.sidecar, drainer.nobody);
  Atomics.notify(words, logWord.drainer);
}

/** Waits for the pass under way, then nobody else drains any more. False where that is so. */
export function takeLastTurn(words: Int32Array): boolean {
  const { nobody, sidecar, ending } = drainer;
  const deadlineMs = bootMs() + passMsMax;
  for (;;) {
    const before = Atomics.compareExchange(words, logWord.drainer, nobody, ending);
    if (before !== sidecar) return before === nobody;
    const leftMs = deadlineMs - bootMs();
    if (leftMs <= 0) break;
    Atomics.wait(words, logWord.drainer, sidecar, leftMs);
  }
  // Lines of the pass that hangs may be there twice: better than not at all.
  return Atomics.exchange(words, logWord.drainer, ending) !== ending;
}
