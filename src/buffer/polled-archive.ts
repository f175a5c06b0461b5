/** What can be asked for ranges, as what peers are served from: it is followed by asking. */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { isGaplessError } from "../errors.ts";
import type { Archive } from "../flow/endpoints.ts";
import { lastIdOf, packMessages, type Batch } from "../message.ts";
import type { BufferArchive } from "./archive.ts";

export interface PolledOptions {
  /** Whose messages they are. */
  readonly component: string;
  /** Pause after which it is asked again for what was not there yet. Default 10. */
  readonly pollIntervalMs?: number;
}

const readMax = 8192;
const pollIntervalMsDefault = 10;

/** The archive, with what follows from `read` and `bounds`. */
export function polledArchive(archive: Archive, options: PolledOptions): BufferArchive {
  const { component, pollIntervalMs = pollIntervalMsDefault } = options;
  return {
    component,
    read: (fromId, limit) => archive.read(fromId, limit),
    bounds: () => archive.bounds(),
    async status() {
      const bounds = await archive.bounds();
      const { minId, maxId } = bounds ?? {};
      const isEmpty = minId === undefined || maxId === undefined || minId > maxId;
      return { minId: isEmpty ? undefined : minId, maxId, logPosition: 0n };
    },
    async *follow(fromId, { signal } = {}) {
      let nextId = fromId;
      while (signal?.aborted !== true) {
        let batch: Batch;
        try {
          batch = await archive.read(nextId, readMax);
        } catch (error) {
          if (isGaplessError(error, "CLOSED")) return;
          if (!isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) throw error;
          const pause = sleep(pollIntervalMs, undefined, signal === undefined ? {} : { signal });
          // An abort ends the pause; the loop looks at the signal.
          await pause.catch(() => undefined);
          continue;
        }
        yield batch;
        nextId = lastIdOf(batch) + 1n;
      }
    },
    async digest(fromId, throughId) {
      const hash = createHash("sha256");
      let count = 0;
      let nextId = fromId;
      // The end has to be there, as the beginning has.
      await archive.read(throughId, 1);
      while (nextId <= throughId) {
        const batch = await archive.read(nextId, readMax);
        const messages = batch.filter(({ id }) => id <= throughId);
        hash.update(packMessages(messages));
        count += messages.length;
        nextId = lastIdOf(batch) + 1n;
      }
      return { count, sha256: new Uint8Array(hash.digest()) };
    },
  };
}
