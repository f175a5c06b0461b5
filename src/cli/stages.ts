/** The stages of a run in figures: pure, from two looks at the services. */
import type { Progress } from "../supervise/protocol.ts";

/** What is looked at: a service's newest progress, and who feeds it. */
export interface StageSample {
  readonly name: string;
  readonly state: string;
  readonly progress: Progress;
  readonly restarts: number;
}

export interface Stage {
  readonly name: string;
  readonly state: string;
  /** Messages, and the share of all of them where that is known. */
  readonly done: bigint;
  readonly share: number | undefined;
  /** Messages a second since the last look. */
  readonly rate: number;
  /** Messages that the stage before has given out and this one has not taken. */
  readonly lag: bigint | undefined;
  readonly restarts: number;
  readonly gapsFilled: bigint;
  readonly counts: Readonly<Record<string, bigint>>;
}

/**
 * @param upstream Name of the service that feeds each, where one does.
 * @param before The last look; the rates are from there, over `elapsedMs`.
 */
export function describeStages(
  samples: readonly StageSample[],
  upstream: ReadonlyMap<string, string>,
  before: ReadonlyMap<string, bigint>,
  elapsedMs: number,
): Stage[] {
  return samples.map((sample) => {
    const done = doneOf(sample.progress);
    const source = samples.find(({ name }) => name === upstream.get(sample.name));
    const offered = source?.progress.produced ?? 0n;
    const { total } = sample.progress;
    const isBehind = sample.progress.consumed !== undefined && offered > done;
    return {
      name: sample.name,
      state: sample.state,
      done,
      share: total === undefined || total === 0n ? undefined : Number(done) / Number(total),
      rate:
        elapsedMs <= 0 ? 0 : (Number(done - (before.get(sample.name) ?? 0n)) * 1000) / elapsedMs,
      lag: source === undefined ? undefined : isBehind ? offered - done : 0n,
      restarts: sample.restarts,
      gapsFilled: sample.progress.gapsFilled ?? 0n,
      counts: sample.progress.counts ?? {},
    };
  });
}

/** What a stage has done: taken from its input, or, where it has none, given out. */
export function doneOf(progress: Progress): bigint {
  return progress.consumed ?? progress.produced ?? 0n;
}
