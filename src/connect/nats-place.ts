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

/** Who publishes commands to their places, one after the other. */
export class Proposer {
  private readonly publisher: JetStreamClient;
  private readonly manager: JetStreamManager;
  private readonly stream: string;
  private readonly subject: string;
  private readonly changeLeader: () => Promise<void>;
  /** The newest sequence that is known to be taken. */
  private newest: number;

  constructor(
    manager: JetStreamManager,
    stream: string,
    subject: string,
    newest: number,
    changeLeader: () => Promise<void>,
  ) {
    this.changeLeader = changeLeader;
    this.manager = manager;
    this.publisher = manager.jetstream();
    this.stream = stream;
    this.subject = subject;
    this.newest = newest;
  }

  /** Returns what tries once, and is called again as long as it throws what passes. */
  proposal(bytes: Uint8Array, timeoutMs: number): () => Promise<bigint> {
    const id = randomUUID();
    let last = this.newest;
    let wasSent = false;
    let tries = 0;
    return async () => {
      if (wasSent) {
        const taken = await this.look(id, last);
        if (taken === "mine") return this.took(last + 1);
        if (taken === "another's") last = await this.newestBehind(last);
        // Its place is free, and it does not get there: what leads may have lost what is before.
        else if (++tries % triesPerLeader === 0) await this.changeLeader();
      }
      wasSent = true;
      const { seq } = await this.publisher.publish(this.subject, bytes, {
        msgID: `${id}-${last}`,
        timeout: timeoutMs,
        expect: { streamName: this.stream, lastSequence: last },
      });
      // Recognised as sent before, and not in its place yet; or what leads has lost something.
      if (seq !== last + 1) throw new Error(`sequence=${seq} was given for ${last + 1}`);
      return this.took(seq);
    };
  }

  /** Who has the place behind a sequence. */
  private async look(id: string, last: number): Promise<"nobody's" | "mine" | "another's"> {
    const message = await this.manager.streams.getMessage(this.stream, { seq: last + 1 });
    if (message === null) return (await this.isGivenUp(last + 1)) ? "another's" : "nobody's";
    return message.header.get(idHeader) === `${id}-${last}` ? "mine" : "another's";
  }

  /**
   * Whether the stream's limits of age and bytes have taken what was there. Whose that was, nobody
   * can tell any more; proposed again, it does no harm.
   */
  private async isGivenUp(sequence: number): Promise<boolean> {
    const { state } = await this.manager.streams.info(this.stream);
    return sequence < state.first_seq;
  }

  private async newestBehind(last: number): Promise<number> {
    const { state } = await this.manager.streams.info(this.stream);
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
