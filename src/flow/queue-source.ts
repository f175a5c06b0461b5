/** A queue as the source of a flow: a journal, or records that are made messages of. */
import { checkFunctions, checkOptions, checkWhole, type OptionNames } from "../arguments.ts";
import { describeError, GaplessError } from "../errors.ts";
import { isBatch, unpackMessages, type Batch, type Message } from "../message.ts";
import type { QueueMessage, Subscriber } from "../queue/queue.ts";
import type { Source } from "./endpoints.ts";
import { pollLive, silenceMsDefault, type SilenceMs } from "./live.ts";

export interface QueueSourceOptions {
  /** Makes a message of a record. Default: its payload is one, as in the queue of a journal. */
  readonly decode?: (record: QueueMessage) => Message;
  /** Messages in one batch, at most. Default 1,024. */
  readonly batchMax?: number;
  /** First silence after which live() says so; doubled up to the second as it goes on. */
  readonly silenceMs?: SilenceMs;
}

const batchMaxDefault = 1024;
const optionNames = {
  decode: true,
  batchMax: true,
  silenceMs: true,
} as const satisfies OptionNames<QueueSourceOptions>;

/** Where a message that was delivered is in the queue. */
interface Delivered {
  readonly id: bigint;
  readonly sequence: number;
}

/**
 * Delivers what the subscriber has not committed, from there on, until the signal aborts: a queue
 * has no end. What is acknowledged is committed. A record that cannot be read or made a message of
 * ends it with the error, behind everything that comes before.
 *
 *     const trades = openSubscriber("/var/lib/exchange/trades", "oms", { through: "durable" });
 *     await pump({ source: queueSource(trades), sink, signal });
 *
 * Of a queue whose writer may lose power, only what is durable should go into a sink that is:
 * `through` says so.
 *
 * @throws GaplessError CONFIG_INVALID
 */
export function queueSource(subscriber: Subscriber, options: QueueSourceOptions = {}): Source {
  checkOptions("queueSource", options, optionNames);
  checkFunctions(options, "decode");
  const { decode = decodeJournalled, silenceMs = silenceMsDefault } = options;
  const { batchMax = batchMaxDefault } = options;
  checkWhole("batchMax", batchMax, 1, Number.MAX_SAFE_INTEGER);
  /** Not acknowledged yet, in the order of the queue. */
  let delivered: Delivered[] = [];

  const poll = (): Batch | undefined => {
    const batch: Message[] = [];
    while (batch.length < batchMax) {
      const sequence = subscriber.position;
      try {
        const record = subscriber.next();
        if (record === undefined) break;
        const message = decodeAt(subscriber, record, decode);
        delivered.push({ id: message.id, sequence });
        batch.push(message);
      } catch (error) {
        // The next poll begins with it.
        if (subscriber.position !== sequence) subscriber.seekSequence(sequence);
        if (batch.length === 0) throw error;
        break;
      }
    }
    return isBatch(batch) ? batch : undefined;
  };

  return {
    pending() {
      // What was delivered and not acknowledged comes again with the first polls of `live`.
      const [first] = delivered;
      if (first !== undefined) subscriber.seekSequence(first.sequence);
      delivered = [];
      return nothing();
    },
    live(signal) {
      const wait = subscriber.wait.bind(subscriber);
      return pollLive({ poll, wait, isOver: () => false }, silenceMs, signal);
    },
    async acknowledge(throughId) {
      const later = delivered.findIndex(({ id }) => id > throughId);
      const done = later === -1 ? delivered.length : later;
      const last = delivered[done - 1];
      if (last === undefined) return;
      delivered = delivered.slice(done);
      subscriber.commitThrough(last.sequence);
    },
  };
}

async function* nothing(): AsyncGenerator<Batch, void, void> {}

function decodeJournalled({ payload }: QueueMessage): Message {
  const [message, ...others] = unpackMessages(payload);
  if (message === undefined || others.length > 0) {
    throw new GaplessError(
      "MESSAGE_MALFORMED",
      `messages=${others.length + (message === undefined ? 0 : 1)}, expected one`,
    );
  }
  return message;
}

function decodeAt(
  { directory, name }: Subscriber,
  record: QueueMessage,
  decode: (record: QueueMessage) => Message,
): Message {
  try {
    return decode(record);
  } catch (cause) {
    throw new GaplessError(
      "MESSAGE_MALFORMED",
      `The record with sequence=${record.sequence} of the queue in ${directory} is no message ` +
        `for ${name}: ${describeError(cause)}. Give the source a decode that reads it.`,
      { cause },
    );
  }
}
