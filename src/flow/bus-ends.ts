/** A channel of the bus as the source of a flow, and messages into a channel. */
import { BACK_PRESSURED, type Publisher, type RingMemory, type Subscriber } from "../bus/bus.ts";
import { beginning } from "../chain.ts";
import { GaplessError } from "../errors.ts";
import {
  encodedBytes,
  encodeMessage,
  isBatch,
  unpackMessages,
  type Batch,
  type Message,
} from "../message.ts";
import { reachedStep } from "../steps.ts";
import type { Source } from "./endpoints.ts";
import { pollLive, silenceMsDefault, type SilenceMs } from "./live.ts";

export interface BusSourceOptions {
  /** Messages in one batch, at most. */
  readonly batchMax?: number;
  /** First silence after which live() says so; doubled up to the second as it goes on. */
  readonly silenceMs?: SilenceMs;
}

/** Reads a channel whose messages were published by `publishMessages`. */
export function busSource(subscriber: Subscriber, options: BusSourceOptions = {}): Source {
  const batchMax = options.batchMax ?? 1024;
  const silenceMs = options.silenceMs ?? silenceMsDefault;
  let batch: Message[] = [];
  /** Of what was taken and not released: duplicates may come behind newer messages. */
  let newestId = beginning;

  // Copied out: a batch outlives the step for which the ring would hold it.
  const take = (memory: RingMemory, offset: number, length: number): void => {
    for (const message of unpackMessages(memory.bytes.slice(offset, offset + length))) {
      batch.push(message);
      if (message.id > newestId) newestId = message.id;
    }
  };

  const poll = (): Batch | undefined => {
    batch = [];
    const records = subscriber.poll(take, batchMax);
    if (isBatch(batch)) return batch;
    // Nobody would ever acknowledge it, and so the ring would fill up with such records.
    if (records > 0) {
      throw new GaplessError(
        "MESSAGE_MALFORMED",
        "A record of the channel is empty: expected messages, as publishMessages packs them.",
      );
    }
    return undefined;
  };

  return {
    async *pending() {
      // What was not released comes again with the first polls of `live`, at the same place.
    },
    live(signal) {
      const wait = subscriber.wait.bind(subscriber);
      return pollLive({ poll, wait, isOver: () => subscriber.ended }, silenceMs, signal);
    },
    async acknowledge(throughId) {
      // The ring releases what was polled as a whole; a part of it stays held.
      if (throughId < newestId) return;
      newestId = beginning;
      subscriber.release();
    },
  };
}

/** Commits at most this many bytes at once, so that consumers begin while the rest is encoded. */
const commitBytesMax = 16 * 1024;

/**
 * Publishes messages in order, waiting for room. Returns when the last one is committed. Where it
 * throws, the first of them may be published, and nothing is claimed: `Publisher.last` knows.
 */
export async function publishMessages(
  publisher: Publisher,
  messages: readonly Message[],
  signal: AbortSignal,
): Promise<void> {
  const { bytes, view } = publisher.memory;
  let open = 0;
  const commit = (): void => {
    if (open === 0) return;
    publisher.commit();
    open = 0;
    reachedStep("bus.committed");
  };
  try {
    for (const message of messages) {
      const length = encodedBytes(message);
      let offset = publisher.claim(length);
      while (offset === BACK_PRESSURED) {
        commit();
        await publisher.waitForRoom(length, signal);
        offset = publisher.claim(length);
      }
      encodeMessage(message, bytes, view, offset);
      open += length;
      if (open >= commitBytesMax) commit();
    }
    commit();
  } catch (error) {
    // What is claimed would otherwise be published by whoever commits next.
    publisher.abort();
    throw error;
  }
}
