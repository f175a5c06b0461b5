/** The thread that cleans a queue up, again and again. */
import { isGaplessError } from "../errors.ts";
import { cleanupSegments } from "./cleanup.ts";
import type { RetentionNews, RetentionTask } from "./retain.ts";
import type { PassedOver } from "./retention.ts";
import { serveRounds, type Rounds } from "../sidecar/serve-rounds.ts";

class Retaining implements Rounds<RetentionNews> {
  private readonly task: RetentionTask;
  private news: RetentionNews | undefined;

  constructor(task: RetentionTask) {
    this.task = task;
  }

  round(): void {
    const { directory, policy } = this.task;
    try {
      const { segments, bytes, throughSequence, passedOver } = cleanupSegments(directory, policy);
      if (segments.length === 0 && passedOver.length === 0) return;
      const before = this.news;
      this.news = {
        segments: (before?.segments ?? 0) + segments.length,
        bytes: (before?.bytes ?? 0) + bytes,
        throughSequence: Math.max(before?.throughSequence ?? 0, throughSequence),
        passedOver: passedOver.reduce(join, before?.passedOver ?? []),
      };
    } catch (error) {
      // A publisher has yet to make it.
      if (!isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) throw error;
    }
  }

  takeNews(): RetentionNews | undefined {
    const { news } = this;
    this.news = undefined;
    return news;
  }
}

/** What follows the last stretch of a reader makes it longer. */
function join(all: readonly PassedOver[], next: PassedOver): readonly PassedOver[] {
  const last = all.findLast(({ reader }) => reader === next.reader);
  if (last?.reason !== next.reason || last.to + 1 !== next.from) return [...all, next];
  return all.map((one) => (one === last ? { ...one, to: next.to } : one));
}

serveRounds((task) => new Retaining(task as RetentionTask));
