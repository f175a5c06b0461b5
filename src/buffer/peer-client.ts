/** An archive in another process, reached over the socket that `serveBuffers` made. */
import { setTimeout as sleep } from "node:timers/promises";
import { GaplessError, isGaplessError } from "../errors.ts";
import type { Bounds } from "../flow/endpoints.ts";
import { lastIdOf, type Batch, type Message } from "../message.ts";
import type { ArchiveStatus, BufferArchive, FollowOptions, RangeDigest } from "./archive.ts";
import { messageBytesMax } from "./chunk.ts";
import {
  boundsOf,
  ChainedFrames,
  checkedDigest,
  checkedRange,
  checkedStatus,
  unpackAnswer,
} from "./peer-answer.ts";
import { jitteredMs } from "./peer-backoff.ts";
import type { PeerConnection } from "./peer-connection.ts";
import { resolvePeer, type PeerOptions, type ResolvedPeer } from "./peer-options.ts";
import { readMessagesMax } from "./peer-wire.ts";
import { checkReadArguments, readBytesMax } from "./range.ts";

/** A flow of a server somewhere else. */
export interface Peer extends BufferArchive, AsyncDisposable {
  /** Where it was told to connect. */
  readonly address: string;
  follow(fromId: bigint, options?: FollowOptions): AsyncGenerator<Batch>;
}

/**
 * The flow that is served at the address. Connects with the first call, and again with the next
 * one after the connection was lost; an idle connection keeps no process alive. Nothing that
 * comes is believed: an answer that does not parse, or that is not the one asked for, is
 * DataCorrupted. The buffer's own errors come as themselves, with their ids; whatever else keeps
 * a call from its answer is PEER_UNAVAILABLE. `read` stops after about 1 MiB. `follow` goes on
 * behind what it has delivered when the connection was lost, and throws PEER_UNAVAILABLE where
 * the peer was not to be had for `timeoutMs`. Disposing rejects calls under way with CLOSED.
 *
 * @throws GaplessError CONFIG_INVALID for options that make no sense.
 */
export function connectPeer(options: PeerOptions): Peer {
  return new GrpcPeer(resolvePeer(options));
}

class GrpcPeer implements Peer {
  readonly address: string;
  readonly component: string;
  private readonly options: ResolvedPeer;
  private connection: Promise<PeerConnection> | undefined;
  private closing = false;

  constructor(options: ResolvedPeer) {
    this.address = options.address;
    this.component = options.flow;
    this.options = options;
  }

  async read(fromId: bigint, limit: number): Promise<Batch> {
    checkReadArguments(fromId, limit);
    return this.call(async (peer) => {
      const asked = Math.min(limit, readMessagesMax);
      const messages: Message[] = [];
      let bytes = 0;
      for await (const packed of peer.sync(fromId, asked, readBytesMax)) {
        bytes += packed.length;
        const taken = unpackAnswer(packed, fromId, this.address);
        for (const message of taken) messages.push(message);
        if (messages.length > asked || bytes > readBytesMax + messageBytesMax) break;
      }
      return checkedRange(messages, fromId, asked, this.address);
    });
  }

  async bounds(): Promise<Bounds | null> {
    return boundsOf(await this.status());
  }

  status(): Promise<ArchiveStatus> {
    return this.call(async (peer) =>
      checkedStatus(await peer.status(), this.component, this.address),
    );
  }

  digest(fromId: bigint, throughId: bigint): Promise<RangeDigest> {
    return this.call(async (peer) =>
      checkedDigest(await peer.digest(fromId, throughId), fromId, this.address),
    );
  }

  async *follow(fromId: bigint, { signal }: FollowOptions = {}): AsyncGenerator<Batch> {
    checkReadArguments(fromId, 1);
    const isOver = (): boolean => signal?.aborted === true;
    const { timeoutMs } = this.options;
    let lastId: bigint | undefined;
    let lostSinceMs: number | undefined;
    for (let failures = 0; !isOver(); failures++) {
      let isAnswering = false;
      const startMs = performance.now();
      try {
        // A follower of a peer that has nothing new hears nothing: whether it is there is asked.
        if (failures > 0) isAnswering = await this.status().then(() => true);
        for await (const batch of this.followOnce(fromId, lastId, signal)) {
          isAnswering = true;
          failures = 0;
          lostSinceMs = undefined;
          yield batch;
          lastId = lastIdOf(batch);
        }
        return;
      } catch (error) {
        if (isOver()) return;
        const nowMs = performance.now();
        if (isAnswering && nowMs - startMs > timeoutMs) lostSinceMs = undefined;
        lostSinceMs ??= nowMs;
        const isLost = isGaplessError(error, "PEER_UNAVAILABLE");
        if (!isLost || nowMs - lostSinceMs > timeoutMs) throw error;
      }
      // An abort ends the pause; the loop looks at the signal.
      await sleep(jitteredMs(failures), undefined, { signal }).catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closing = true;
    (await this.connection)?.close();
  }

  /** Over one connection, behind `lastId` where that is known. */
  private async *followOnce(
    fromId: bigint,
    lastId: bigint | undefined,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Batch> {
    const nextId = lastId === undefined ? fromId : lastId + 1n;
    const peer = await this.connect();
    const chained = new ChainedFrames(this.address, nextId, lastId);
    try {
      for await (const packed of peer.follow(nextId, signal)) yield chained.take(packed);
    } catch (error) {
      throw this.isClosed() ? this.closed() : error;
    }
  }

  private async call<Answer>(ask: (peer: PeerConnection) => Promise<Answer>): Promise<Answer> {
    const peer = await this.connect();
    try {
      return await ask(peer);
    } catch (error) {
      throw this.isClosed() ? this.closed() : error;
    }
  }

  private async connect(): Promise<PeerConnection> {
    if (this.isClosed()) throw this.closed();
    const peer = await (this.connection ??= this.open());
    if (this.isClosed()) throw this.closed();
    return peer;
  }

  private async open(): Promise<PeerConnection> {
    const { openConnection } = await import("./peer-connection.ts");
    return openConnection(this.options);
  }

  /** Asked after a wait: a comparison of the field itself would be taken for settled. */
  private isClosed(): boolean {
    return this.closing;
  }

  private closed(): GaplessError {
    return new GaplessError("CLOSED", `The connection to ${this.address} is closed.`);
  }
}
