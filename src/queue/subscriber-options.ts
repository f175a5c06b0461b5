/** What a subscriber can be told; checked once, then frozen. */
import { GaplessError } from "../errors.ts";
import { checkOptions, type OptionNames } from "../arguments.ts";
import type { QueueLoss } from "./loss-ledger.ts";
import type { StartMode } from "./start.ts";

/**
 *   park             sleeps at once: costs nothing while nothing comes
 *   spin-then-park   looks for `spinMicros` first
 *   busy-spin        never sleeps; an asynchronous wait looks once a turn of the event loop
 */
export type WaitStrategy = "park" | "spin-then-park" | "busy-spin";

export interface SubscriberOptions {
  /** Where it begins. Default `resume-strict`. */
  readonly start?: StartMode;
  /** `durable`: it is given only what is known to survive power loss. Default `written`. */
  readonly through?: "written" | "durable";
  /** Whether the sum of each record is checked, where the queue has sums. Default true. */
  readonly verify?: boolean;
  /** Default `park`. */
  readonly wait?: WaitStrategy;
  /** How long `spin-then-park` spins. Default 50. */
  readonly spinMicros?: number;
  /** Told of each loss once it is recorded. */
  readonly onLoss?: (loss: QueueLoss) => void;
}

export interface ResolvedSubscriberOptions {
  readonly start: StartMode;
  readonly through: "written" | "durable";
  readonly verify: boolean;
  readonly wait: WaitStrategy;
  readonly spinMicros: number;
  readonly onLoss: ((loss: QueueLoss) => void) | undefined;
}

const spinMicrosDefault = 50;

const names = {
  start: true,
  through: true,
  verify: true,
  wait: true,
  spinMicros: true,
  onLoss: true,
} as const satisfies OptionNames<SubscriberOptions>;

const starts = [
  "resume-strict",
  "resume-snapshot",
  "resume-latest",
  "latest",
  "earliest",
] as const satisfies StartMode[];
const throughs = ["written", "durable"] as const;
const waits = ["park", "spin-then-park", "busy-spin"] as const satisfies WaitStrategy[];

/** @throws GaplessError CONFIG_INVALID naming the option and what was expected. */
export function resolveSubscriberOptions(
  directory: string,
  options: SubscriberOptions,
): ResolvedSubscriberOptions {
  const wrong = (key: keyof SubscriberOptions, expected: string): GaplessError =>
    new GaplessError(
      "CONFIG_INVALID",
      `${key}=${JSON.stringify(options[key])} of a subscriber of ${directory}: ` +
        `expected ${expected}.`,
    );
  const oneOf = <Value extends string>(
    key: keyof SubscriberOptions,
    values: readonly [Value, ...Value[]],
  ): Value => {
    const value = options[key] ?? values[0];
    const found = values.find((one) => one === value);
    if (found === undefined) throw wrong(key, values.join(", "));
    return found;
  };
  checkOptions("openSubscriber", options, names);
  const { verify = true, spinMicros = spinMicrosDefault, onLoss } = options;
  if (typeof verify !== "boolean") throw wrong("verify", "true or false");
  if (!(typeof spinMicros === "number" && spinMicros >= 0 && spinMicros < Infinity)) {
    throw wrong("spinMicros", "a number of microseconds, 0 or more");
  }
  if (onLoss !== undefined && typeof onLoss !== "function") throw wrong("onLoss", "a function");
  return Object.freeze({
    start: oneOf("start", starts),
    through: oneOf("through", throughs),
    verify,
    wait: oneOf("wait", waits),
    spinMicros,
    onLoss,
  });
}
