/** Messages of a consumer in batches, as they come, with a watch on silent servers. */
import type { Consumer, JetStreamManager, JsMsg } from "@nats-io/jetstream";
import { describeError } from "../errors.ts";
import type { NatsClient } from "./nats-client.ts";

/** What fetching needs of a connection. */
export interface FetchingParts {
  readonly client: NatsClient;
  readonly manager: JetStreamManager;
  /** Name of the consumer's stream. */
  readonly stream: string;
  /** A server that is silent for twice as long is taken to be gone. */
  readonly heartbeatMs: number;
}

/** Messages asked for at a time: with a server's default limit at most 64 MiB. */
export const fetchMax = 64;
const nanosPerMs = 1_000_000;
const inactiveMs = 30_000;
/** A consumer that begins with a sequence. */
export function openConsumer(parts: FetchingParts, sequence: number): Promise<Consumer> {
  const { manager, stream, client } = parts;
  const { AckPolicy, DeliverPolicy } = client.jetStream;
  return manager.consumers
    .add(stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: sequence,
      inactive_threshold: inactiveMs * nanosPerMs,
      mem_storage: true,
      num_replicas: 1,
    })
    .then((info) => manager.jetstream().consumers.getConsumerFromInfo(info));
}

/**
 * Messages as they come, and none where a while has passed without any. Ends with the signal;
 * throws what the client throws, and where a server does not even say that it is there.
 */
export async function* fetchAll(
  { heartbeatMs }: FetchingParts,
  consumer: Consumer,
  signal: AbortSignal,
): AsyncGenerator<readonly JsMsg[], void, void> {
  const expires = 2 * heartbeatMs;
  const silentMs = expires + 2 * heartbeatMs;
  while (!signal.aborted) {
    const mailbox = new Mailbox();
    let isIdle = true;
    const fetching = await consumer.fetch({
      max_messages: fetchMax,
      expires,
      idle_heartbeat: heartbeatMs,
    });
    void mailbox.fill(fetching);
    const stop = (): void => mailbox.end(undefined);
    // The client's own watch pauses while it is disconnected; this one does not.
    const overdue = setTimeout(() => mailbox.end(new Error(`silent for ${silentMs} ms`)), silentMs);
    signal.addEventListener("abort", stop, { once: true });
    // It may have been aborted before anybody listened.
    if (isAborted(signal)) stop();
    try {
      for (;;) {
        const messages = await mailbox.take();
        if (messages === undefined) break;
        isIdle = false;
        yield messages;
      }
      if (isIdle) yield [];
    } finally {
      clearTimeout(overdue);
      signal.removeEventListener("abort", stop);
      fetching.stop();
    }
  }
}

/** What came and was not taken, and whether more comes. */
class Mailbox {
  private messages: JsMsg[] = [];
  private hasEnded = false;
  private failure: Error | undefined;
  private wake: () => void = () => undefined;

  /** Takes in what comes. Never rejects. */
  async fill(messages: AsyncIterable<JsMsg>): Promise<void> {
    try {
      for await (const message of messages) {
        this.messages.push(message);
        this.wake();
      }
      this.end(undefined);
    } catch (error) {
      this.end(error instanceof Error ? error : new Error(describeError(error)));
    }
  }

  end(failure: Error | undefined): void {
    if (!this.hasEnded) this.failure = failure;
    this.hasEnded = true;
    this.wake();
  }

  /** undefined at the end. What came before a failure is given before it is thrown. */
  async take(): Promise<readonly JsMsg[] | undefined> {
    while (this.messages.length === 0 && !this.hasEnded) {
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    if (this.messages.length > 0) return this.messages.splice(0);
    if (this.failure !== undefined) throw this.failure;
    return undefined;
  }
}

/** Asked anew: what is known of it may be of before a wait. */
export function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
