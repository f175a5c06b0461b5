/** An archive in another process, reached over the socket that `serveBuffer` made. */
import { GaplessError } from "../errors.ts";
import type { Archive, Bounds } from "../flow/endpoints.ts";
import { isBatch, unpackMessages, type Batch } from "../message.ts";
import type { PeerConnection } from "./peer-connection.ts";
import { checkSocketPath } from "./peer-wire.ts";
import { checkReadArguments, rangeFault } from "./range.ts";

export interface PeerOptions {
  /** How long a call may take before it rejects with PEER_UNAVAILABLE. Default 5,000. */
  readonly timeoutMs?: number;
}

const timeoutMsDefault = 5000;
const timeoutMsMax = 2 ** 31 - 1;
/** The wire has 32 bits for it. */
const limitMax = 0xffff_ffff;

/**
 * The archive that is served at `socketPath`. Connects with the first call, and again with the
 * next one after the connection was lost; an idle connection keeps no process alive. Nothing that
 * comes is believed: an answer that does not parse, or that is not the range asked for, rejects
 * with MESSAGE_MALFORMED or CHAIN_BROKEN. Disposing rejects calls under way with CLOSED.
 *
 * @throws GaplessError CONFIG_INVALID for a path that no socket can have.
 */
export function connectBuffer(
  socketPath: string,
  options: PeerOptions = {},
): Archive & AsyncDisposable {
  checkSocketPath(socketPath);
  return new Peer(socketPath, resolveTimeout(options));
}

class Peer implements Archive, AsyncDisposable {
  readonly #socketPath: string;
  readonly #timeoutMs: number;
  #connection: Promise<PeerConnection> | undefined;
  #closed = false;

  constructor(socketPath: string, timeoutMs: number) {
    this.#socketPath = socketPath;
    this.#timeoutMs = timeoutMs;
  }

  async read(fromId: bigint, limit: number): Promise<Batch> {
    checkReadArguments(fromId, limit);
    const packed = await this.#call((peer) => peer.read(fromId, Math.min(limit, limitMax)));
    const messages = unpackMessages(packed);
    const fault = rangeFault(messages, fromId, limit);
    if (fault !== undefined) throw this.#wrongAnswer(fault);
    if (!isBatch(messages)) throw this.#wrongAnswer("no messages");
    return messages;
  }

  async bounds(): Promise<Bounds | null> {
    const { minId, maxId } = await this.#call((peer) => peer.bounds());
    if (minId === undefined && maxId === undefined) return null;
    if (minId === undefined || maxId === undefined || maxId < 1n || minId > maxId + 1n) {
      throw this.#wrongAnswer(`minId=${minId ?? "none"}, maxId=${maxId ?? "none"}`);
    }
    return { minId, maxId };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    (await this.#connection)?.close();
  }

  async #call<Answer>(ask: (peer: PeerConnection) => Promise<Answer>): Promise<Answer> {
    if (this.#closed) throw this.#connectionClosed();
    const peer = await (this.#connection ??= this.#open());
    if (this.#isClosed()) throw this.#connectionClosed();
    try {
      return await ask(peer);
    } catch (error) {
      if (this.#isClosed()) throw this.#connectionClosed();
      throw error;
    }
  }

  async #open(): Promise<PeerConnection> {
    const { openConnection } = await import("./peer-connection.ts");
    return openConnection(this.#socketPath, this.#timeoutMs);
  }

  /** Asked after a wait: a comparison of the field itself would be taken for settled. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #wrongAnswer(fault: string): GaplessError {
    return new GaplessError(
      "CHAIN_BROKEN",
      `The peer at ${this.#socketPath} answered wrongly: ${fault}.`,
    );
  }

  #connectionClosed(): GaplessError {
    return new GaplessError("CLOSED", `The connection to ${this.#socketPath} is closed.`);
  }
}

function resolveTimeout({ timeoutMs = timeoutMsDefault }: PeerOptions): number {
  if (Number.isSafeInteger(timeoutMs) && timeoutMs >= 1 && timeoutMs <= timeoutMsMax) {
    return timeoutMs;
  }
  throw new GaplessError(
    "CONFIG_INVALID",
    `timeoutMs=${timeoutMs}: expected a whole number from 1 to ${timeoutMsMax}.`,
  );
}
