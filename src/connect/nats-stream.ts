/** The stream that a log is kept in: made as it has to be, and refused where it is otherwise. */
import type { JetStreamManager, StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { GaplessError } from "../errors.ts";
import { isStreamNotFound, type NatsClient } from "./nats-client.ts";

/** What a stream is to be. */
export interface StreamWish {
  readonly stream: string;
  readonly subject: string;
  readonly replicas: number;
  /** How long a command that is sent again is recognised, at least. */
  readonly duplicateWindowMs: number;
  /** How much of the log is kept; undefined: all of it. */
  readonly ageMs: number | undefined;
  readonly bytes: number | undefined;
}

const nanosPerMs = 1_000_000;
const noLimit = -1;

/**
 * Returns the stream, and makes it where there is none.
 *
 * @throws GaplessError CONFIG_INVALID where there is one that cannot be a log; and what the client
 *   throws
 */
export async function ensureStream(
  client: NatsClient,
  manager: JetStreamManager,
  wish: StreamWish,
): Promise<StreamInfo> {
  const wanted = configOf(wish);
  let info: StreamInfo;
  try {
    info = await manager.streams.info(wish.stream);
  } catch (error) {
    if (!isStreamNotFound(client, error)) throw error;
    info = await manager.streams.add({ name: wish.stream, ...wanted });
  }
  checkStream(wish, wanted, info.config);
  return info;
}

type WantedConfig = Pick<
  StreamConfig,
  | "subjects"
  | "storage"
  | "retention"
  | "discard"
  | "num_replicas"
  | "max_msgs"
  | "max_msgs_per_subject"
  | "max_age"
  | "max_bytes"
  | "duplicate_window"
  | "deny_delete"
  | "deny_purge"
  | "allow_rollup_hdrs"
>;

function configOf(wish: StreamWish): WantedConfig {
  return {
    subjects: [wish.subject],
    storage: "file",
    retention: "limits",
    discard: "old",
    num_replicas: wish.replicas,
    max_msgs: noLimit,
    max_msgs_per_subject: noLimit,
    max_age: (wish.ageMs ?? 0) * nanosPerMs,
    max_bytes: wish.bytes ?? noLimit,
    duplicate_window: wish.duplicateWindowMs * nanosPerMs,
    // Nothing may leave from the middle, by anybody: positions are dense.
    deny_delete: true,
    deny_purge: true,
    allow_rollup_hdrs: false,
  };
}

/** Limits of age and bytes may be an operator's own: they are compared where they are asked for. */
function checkStream(wish: StreamWish, wanted: WantedConfig, found: StreamConfig): void {
  const refuse = (key: string, value: unknown, expected: unknown): never => {
    throw new GaplessError(
      "CONFIG_INVALID",
      `The stream ${wish.stream} cannot be this log: ${key}=${JSON.stringify(value)}, expected ` +
        `${JSON.stringify(expected)}. Change it, or name another stream.`,
    );
  };
  const skipped = new Set<string>(["duplicate_window"]);
  if (wish.ageMs === undefined) skipped.add("max_age");
  if (wish.bytes === undefined) skipped.add("max_bytes");
  for (const [key, expected] of Object.entries(wanted)) {
    const value = found[key as keyof WantedConfig];
    const isSame = JSON.stringify(value) === JSON.stringify(expected);
    if (!skipped.has(key) && !isSame) refuse(key, value, expected);
  }
  if (found.duplicate_window < wanted.duplicate_window) {
    refuse("duplicate_window", found.duplicate_window, wanted.duplicate_window);
  }
  if (found.mirror !== undefined) refuse("mirror", found.mirror.name, null);
  if ((found.sources ?? []).length > 0) refuse("sources", found.sources, []);
}
