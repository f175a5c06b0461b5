/**
 * The place of a command in a stream, which the command itself names: each is published to come
 * right behind a sequence, and has that in its header for as long as it is kept.
 *
 *   header   Nats-Expected-Last-Sequence: 41      the stream takes it as 42, or not at all
 *            Nats-Msg-Id: ID-41                   sent again it is taken once
 *
 * So whoever was not answered can look at that place whether it got it, and needs no memory of the
 * servers for that. And a reader tells a right copy of the stream from one that has lost something:
 * a server that was killed may come back without a message that the others have (seen with 2.9),
 * and then has all later ones at other sequences.
 */
import type { JetStreamClient, JetStreamManager, JsMsg, StoredMsg } from "@nats-io/jetstream";
import type { MsgHdrs } from "@nats-io/transport-node";
import { randomUUID } from "node:crypto";
import { GaplessError } from "../errors.ts";
import { readCommand, type LogEntry } from "../flow/replicated-log.ts";
import { isPlaceTaken, type NatsClient } from "./nats-client.ts";

const placeHeader = "Nats-Expected-Last-Sequence";
const idHeader = "Nats-Msg-Id";
/** A command is sent so often before another server is to lead. */
const triesPerLeader = 5;

/** What a message of a stream is as an entry; undefined where its sequence is not its place. */
export function entryOf(
  sequence: number,
  { headers, data }: { readonly headers: MsgHdrs | undefined; readonly data: Uint8Array },
): LogEntry | undefined {
  const position = BigInt(sequence);
  const place = headers?.get(placeHeader) ?? "";
  if (place === "") return { position, command: { kind: "unreadable", error: withoutPlace() } };
  if (Number(place) + 1 !== sequence) return undefined;
  return { position, command: readCommand(data) };
}

/** As `entryOf`, of what a consumer has given. */
export function deliveredEntry({ info, headers, data }: JsMsg): LogEntry | undefined {
  return entryOf(info.streamSequence, { headers, data });
}

/** As `entryOf`, of what the leader of the stream has. */
export function storedEntry({ seq, header, data }: StoredMsg): LogEntry | undefined {
  return entryOf(seq, { headers: header, data });
}

/** What proposing needs of a connection. */
export interface ProposingParts {
  readonly client: NatsClient;
  readonly manager: JetStreamManager;
  readonly stream: string;
  readonly subject: string;
  /** Asks that another server lead the stream. */
  readonly changeLeader: () => Promise<void>;
}

/** Who publishes commands to their places, one after the other. */
export class Proposer {
  private readonly parts: ProposingParts;
  private readonly publisher: JetStreamClient;
  /** The newest sequence that is known to be taken. */
  private newest: number;

  constructor(parts: ProposingParts, newest: number) {
    this.parts = parts;
    this.publisher = parts.manager.jetstream();
    this.newest = newest;
  }

  /** Returns what tries once, and is called again as long as it throws what passes. */
  proposal(bytes: Uint8Array, timeoutMs: number): () => Promise<bigint> {
    const id = randomUUID();
    let last = this.newest;
    let wasSent = false;
    let tries = 0;

    /** Its place, where it has one; goes on to the next one where another command has this one. */
    const look = async (): Promise<"nobody's" | "another's" | bigint> => {
      const taken = await this.look(id, last);
      if (taken === "mine") return this.took(last + 1);
      if (taken === "another's") last = await this.newestBehind(last);
      return taken;
    };
    const send = async (): Promise<bigint> => {
      wasSent = true;
      const { stream, subject } = this.parts;
      const { seq } = await this.publisher.publish(subject, bytes, {
        msgID: `${id}-${last}`,
        timeout: timeoutMs,
        expect: { streamName: stream, lastSequence: last },
      });
      // Recognised as sent before, and not in its place yet; or what leads has lost something.
      if (seq !== last + 1) throw new Error(`sequence=${seq} was given for ${last + 1}`);
      return this.took(seq);
    };

    return async () => {
      if (wasSent) {
        const place = await look();
        if (typeof place === "bigint") return place;
        // Its place is free, and it does not get there: what leads may have lost what is before.
        if (place === "nobody's" && ++tries % triesPerLeader === 0) await this.parts.changeLeader();
      }
      const giveUpMs = performance.now() + timeoutMs;
      for (;;) {
        try {
          return await send();
        } catch (error) {
          const isRace = isPlaceTaken(this.parts.client, error);
          if (!isRace || performance.now() >= giveUpMs) throw error;
          // Others were faster. Who pauses here is kept waiting by them for as long as they go on.
          const place = await look();
          if (typeof place === "bigint") return place;
          if (place === "nobody's") throw error;
        }
      }
    };
  }

  /** Who has the place behind a sequence. */
  private async look(id: string, last: number): Promise<"nobody's" | "mine" | "another's"> {
    const message = await this.parts.manager.streams.getMessage(this.parts.stream, {
      seq: last + 1,
    });
    if (message === null) return (await this.isGivenUp(last + 1)) ? "another's" : "nobody's";
    return message.header.get(idHeader) === `${id}-${last}` ? "mine" : "another's";
  }

  /**
   * Whether the stream's limits of age and bytes have taken what was there. Whose that was, nobody
   * can tell any more; proposed again, it does no harm.
   */
  private async isGivenUp(sequence: number): Promise<boolean> {
    const { state } = await this.parts.manager.streams.info(this.parts.stream);
    return sequence < state.first_seq;
  }

  private async newestBehind(last: number): Promise<number> {
    const { state } = await this.parts.manager.streams.info(this.parts.stream);
    return Math.max(state.last_seq, last + 1);
  }

  private took(sequence: number): bigint {
    this.newest = sequence;
    return BigInt(sequence);
  }
}

function withoutPlace(): GaplessError {
  return new GaplessError(
    "MESSAGE_MALFORMED",
    "A message of the stream does not name its place: it was not proposed to the log.",
  );
}
