/** The client of NATS, which the user brings: loaded when it is used, and what its errors mean. */
import type * as JetStream from "@nats-io/jetstream";
import type * as Transport from "@nats-io/transport-node";
import { describeError, GaplessError } from "../errors.ts";

/** Both packages, loaded. */
export interface NatsClient {
  readonly jetStream: typeof JetStream;
  readonly transport: typeof Transport;
}

/** Codes of JetStream's API that say more than their status. */
const apiCode = {
  /** Not enough servers for the replicas asked for, as long as they are not all there. */
  noSuitablePeers: 10005,
  messageTooLarge: 10054,
  /** The place that a command names is taken, or its predecessor is not there. */
  wrongLastSequence: 10071,
  /** Several replicas of a server that is no cluster. */
  notClustered: 10074,
} as const;

const passingCodes: readonly number[] = [apiCode.noSuitablePeers, apiCode.wrongLastSequence];
/** Statuses with which the same request may succeed later, besides those from 500 on. */
const passingStatuses: readonly number[] = [404, 408, 409, 429];

/** @throws GaplessError CONFIG_INVALID where they are not installed. */
export async function loadNatsClient(): Promise<NatsClient> {
  try {
    const [jetStream, transport] = await Promise.all([
      import("@nats-io/jetstream"),
      import("@nats-io/transport-node"),
    ]);
    return { jetStream, transport };
  } catch (error) {
    throw new GaplessError(
      "CONFIG_INVALID",
      "gapless/connect/nats needs the client of NATS, which cannot be loaded: " +
        `${describeError(error)}. Install it: npm install @nats-io/transport-node ` +
        "@nats-io/jetstream",
      { cause: error },
    );
  }
}

/**
 * The error that a failure is, or undefined for one that passes: a server that is down, has no
 * leader yet, or has not answered in time.
 */
export function finalFailure(
  { jetStream, transport }: NatsClient,
  what: string,
  error: unknown,
): GaplessError | undefined {
  if (error instanceof GaplessError) return error;
  const { errors } = transport;
  const final = (code: "CLOSED" | "CONFIG_INVALID" | "MESSAGE_TOO_LARGE"): GaplessError =>
    new GaplessError(code, `${what}: ${describeError(error)}.`, { cause: error });
  if (error instanceof jetStream.JetStreamApiError) {
    if (error.code === apiCode.messageTooLarge) return final("MESSAGE_TOO_LARGE");
    if (error.code === apiCode.notClustered) return final("CONFIG_INVALID");
    if (passingCodes.includes(error.code)) return undefined;
    const passes = error.status >= 500 || passingStatuses.includes(error.status);
    return passes ? undefined : final("CONFIG_INVALID");
  }
  if (error instanceof errors.ClosedConnectionError) return final("CLOSED");
  if (error instanceof errors.DrainingConnectionError) return final("CLOSED");
  const isRefused =
    error instanceof errors.AuthorizationError ||
    error instanceof errors.PermissionViolationError ||
    error instanceof errors.InvalidArgumentError ||
    error instanceof errors.InvalidSubjectError;
  return isRefused ? final("CONFIG_INVALID") : undefined;
}

/** Whether the servers say that there is no such stream. */
export function isStreamNotFound({ jetStream }: NatsClient, error: unknown): boolean {
  const { JetStreamApiCodes, JetStreamApiError } = jetStream;
  return error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound;
}

/** Whether the servers say that the place behind the sequence that was expected is not free. */
export function isPlaceTaken({ jetStream }: NatsClient, error: unknown): boolean {
  return error instanceof jetStream.JetStreamApiError && error.code === apiCode.wrongLastSequence;
}

/** The error for what has not succeeded in all the time it had. */
export function unavailable(what: string, ms: number, reason: unknown): GaplessError {
  return new GaplessError(
    "PEER_UNAVAILABLE",
    `${what}: no success within ${ms} ms: ${describeError(reason)}. See to the servers, then try ` +
      "again.",
    { cause: reason },
  );
}
