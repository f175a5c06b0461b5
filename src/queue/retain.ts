/** Retention as it is left running: beside a publisher, or in a process of its own. */
import { GaplessError } from "../errors.ts";
import { checkFunctions, wrong } from "../arguments.ts";
import { resolveDirectory } from "./directory.ts";
import { checkPolicy, type PassedOver, type RetentionPolicy } from "./retention.ts";
import { RoundsSidecar } from "../sidecar/rounds.ts";
import { siblingModule } from "../sidecar/sidecar.ts";

/** What was deleted since it was told last. */
export interface Removed {
  readonly segments: number;
  readonly bytes: number;
  /** Messages through this sequence are gone. */
  readonly throughSequence: number;
}

export interface RetentionOptions extends RetentionPolicy {
  /** Between two cleanups. Default 10 seconds. */
  readonly intervalMs?: number;
  readonly onRemoved?: (removed: Removed) => void;
  /** Told of a reader that was not waited for, and of what that took from it. */
  readonly onPassedOver?: (passed: PassedOver) => void;
  /** Told when cleanups begin to fail; they go on. Without it, that is a warning of the process. */
  readonly onFailure?: (error: GaplessError) => void;
}

/** A retention that is running. */
export interface Retention extends AsyncDisposable {
  /** Cleans up soon, without waiting for the interval. */
  nudge(): void;
  /** Ends it behind the cleanup that is under way. */
  close(): Promise<void>;
}

/** What the thread is given. */
export interface RetentionTask {
  readonly directory: string;
  readonly policy: RetentionPolicy;
}

/** What it tells. */
export interface RetentionNews extends Removed {
  readonly passedOver: readonly PassedOver[];
}

const intervalMsDefault = 10_000;

/**
 * Deletes, from time to time and in a thread of its own, the segments of a queue that are too much
 * by the policy and that no reader needs: see `cleanupSegments`. The queue may not exist yet. It
 * keeps no process from ending.
 *
 * @throws GaplessError CONFIG_INVALID
 */
export function startRetention(directory: string, options: RetentionOptions): Retention {
  if (typeof options !== "object" || (options as unknown) === null) {
    throw wrong("options of startRetention", options, "an object");
  }
  checkFunctions(options, "onRemoved", "onPassedOver", "onFailure");
  const { intervalMs = intervalMsDefault, onRemoved, onPassedOver, onFailure, ...policy } = options;
  const folder = resolveDirectory(directory);
  checkPolicy(folder, policy);
  if (!(typeof intervalMs === "number" && intervalMs >= 1)) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `Retention of ${folder}: intervalMs=${intervalMs}, expected 1 millisecond or more.`,
    );
  }
  const task: RetentionTask = { directory: folder, policy };
  const module = siblingModule("retention-worker", import.meta.url);
  return new RoundsSidecar<RetentionNews>(module, task, {
    name: "gapless-retention",
    intervalMs,
    onFailure,
    onNews: ({ passedOver, ...removed }) => {
      for (const passed of passedOver) onPassedOver?.(passed);
      if (removed.segments > 0) onRemoved?.(removed);
    },
  });
}
