/**
 * Stops between the atomic operations of the real code, in one thread.
 *
 * A test runs one end of a channel, and before or after each of its atomic operations lets the
 * other end do something whole, or kills it there. What lies between two atomic operations runs as
 * one block, and the other end is not stopped in turn: that is the limit of it. Who stops whom is
 * therefore tried both ways round.
 */
export interface Operation {
  readonly name: "load" | "store" | "add" | "compareExchange";
  readonly index: number;
  /** What it returned; undefined before it. */
  readonly result: number | undefined;
}

/** Thrown at the place where a party dies; every later operation of it throws it too. */
export class Killed extends Error {}

type Observer = (operation: Operation) => void;

const names = ["load", "store", "add", "compareExchange"] as const;

/** Runs `party`, and tells `observer` of each of its atomic operations, before and after. */
export function observe<Result>(party: () => Result, observer: Observer): Result {
  let isInside = false;
  const tell = (operation: Operation): void => {
    // What the observer does itself is not observed.
    if (isInside) return;
    isInside = true;
    try {
      observer(operation);
    } finally {
      isInside = false;
    }
  };
  const originals = names.map((name) => [name, Reflect.get(Atomics, name) as unknown] as const);
  for (const [name, original] of originals) {
    Reflect.set(Atomics, name, (words: Int32Array, index: number, ...values: number[]) => {
      tell({ name, index, result: undefined });
      const operate = original as (...values: unknown[]) => number;
      const result = operate(words, index, ...values);
      tell({ name, index, result });
      return result;
    });
  }
  try {
    return party();
  } finally {
    for (const [name, original] of originals) Reflect.set(Atomics, name, original);
  }
}

/**
 * Runs `scene` once for each stop of its party, before and after each of its operations, until the
 * party has fewer stops than that. Returns how many there were.
 */
export function forEachStop(
  scene: (stopAt: (interruption: () => void) => Observer) => void,
): number {
  for (let stop = 0; ; stop++) {
    let left = stop;
    scene((interruption) => () => {
      if (left-- === 0) interruption();
    });
    if (left >= 0) return stop;
  }
}

/** The same, with the party killed there. */
export function forEachDeath(scene: (die: Observer) => void): number {
  for (let stop = 0; ; stop++) {
    let left = stop;
    scene(() => {
      if (left-- <= 0) throw new Killed("as asked");
    });
    if (left >= 0) return stop;
  }
}
