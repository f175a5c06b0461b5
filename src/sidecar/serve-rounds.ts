/**
 * The thread's side of rounds: it goes on one after the other, and tells what is new as soon as it
 * was heard before.
 */
import { setTimeout as pause } from "node:timers/promises";
import { describeError, GaplessError, type ErrorCode } from "../errors.ts";
import { serveSidecar } from "./serve-sidecar.ts";

/** Indices of the words that both threads see. */
export const roundWord = {
  /** 1 once no round is to begin any more. */
  stopped: 0,
  /** Changes where the next round is to begin at once. */
  nudges: 1,
  /** News that were told, and how many of them were heard. */
  told: 2,
  heard: 3,
} as const;

export const roundWords = 4;

export interface RoundsData {
  readonly words: Int32Array;
  readonly task: unknown;
  readonly intervalMs: number;
}

/** What is told: news, or why a round has failed. */
export type RoundNews<News> =
  | { readonly kind: "news"; readonly news: News }
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly text: string };

/** What goes its rounds. */
export interface Rounds<News> {
  /** Looks after everything once. What it finds it keeps, until it is asked for. */
  round(): void | Promise<void>;
  /** What is new; undefined where nothing is. Only asked for once the last news were heard. */
  takeNews(): News | undefined;
  close?(): void;
}

/** Nudges come in swarms. */
const restMs = 10;
/** How often it looks whether the last news were heard. */
const hearMs = 50;

type Tell<News> = (news: RoundNews<News>) => void;

/** @param start Called once; with `nudge` it has the next round begin soon. */
export function serveRounds<News>(start: (task: unknown, nudge: () => void) => Rounds<News>): void {
  let rounds: Rounds<News> | undefined;
  serveSidecar<"go", RoundNews<News> | undefined, RoundsData>(
    async (_, { words, task, intervalMs }, tell) => {
      rounds ??= start(task, () => nudge(words));
      // What a thread before it has told, and was not heard, is not in the way.
      Atomics.store(words, roundWord.heard, Atomics.load(words, roundWord.told));
      await goRounds(rounds, words, intervalMs, tell);
      return undefined;
    },
    () => rounds?.close?.(),
  );
}

/** Has the next round begin. */
export function nudge(words: Int32Array): void {
  Atomics.add(words, roundWord.nudges, 1);
  Atomics.notify(words, roundWord.nudges);
}

async function goRounds<News>(
  rounds: Rounds<News>,
  words: Int32Array,
  intervalMs: number,
  tell: Tell<News>,
): Promise<void> {
  let nudges = 0;
  let dueMs = 0;
  let failure: RoundNews<News> | undefined;
  let toldText: string | undefined;
  const tellNext = (news: RoundNews<News> | undefined): void => {
    if (news === undefined) return;
    Atomics.add(words, roundWord.told, 1);
    tell(news);
  };
  while (Atomics.load(words, roundWord.stopped) === 0) {
    const seen = Atomics.load(words, roundWord.nudges);
    if (seen !== nudges || performance.now() >= dueMs) {
      nudges = seen;
      try {
        await rounds.round();
        toldText = undefined;
      } catch (error) {
        const found = failed(error);
        // The same is not said again every round.
        if (found.text !== toldText) failure = found;
        toldText = found.text;
      }
      dueMs = performance.now() + intervalMs;
    }
    const isHeard = wasHeard(words);
    if (isHeard) {
      tellNext(failure ?? newsOf(rounds.takeNews()));
      failure = undefined;
    }
    const leftMs = Math.max(0, dueMs - performance.now());
    await Atomics.waitAsync(words, roundWord.nudges, nudges, wasHeard(words) ? leftMs : hearMs)
      .value;
    if (Atomics.load(words, roundWord.nudges) !== nudges) await pause(restMs);
  }
}

function wasHeard(words: Int32Array): boolean {
  return Atomics.load(words, roundWord.heard) === Atomics.load(words, roundWord.told);
}

function newsOf<News>(news: News | undefined): RoundNews<News> | undefined {
  return news === undefined ? undefined : { kind: "news", news };
}

function failed(error: unknown): { kind: "failed"; code: ErrorCode; text: string } {
  const code = error instanceof GaplessError ? error.code : "SYSTEM_CALL_FAILED";
  return { kind: "failed", code, text: describeError(error) };
}
