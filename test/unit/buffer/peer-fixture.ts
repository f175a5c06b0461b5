/** What the tests of peers share: archives over lists, servers that end with the test. */
import path from "node:path";
import type { TestContext } from "node:test";
import {
  connectPeer,
  serveBuffers,
  type BufferArchive,
  type BufferServer,
  type Peer,
  type PeerOptions,
  type ServeOptions,
} from "../../../src/buffer/buffer.ts";
import { DataNotYetAvailable, DataTrimmed } from "../../../src/buffer/buffer-errors.ts";
import { isBatch, type Message } from "../../../src/message.ts";
import { temporaryDirectory } from "./fixture.ts";
import { polledArchive } from "./polled-archive.ts";

/** The name of the flow in tests with a single one. */
export const flow = "trades";

export function socketIn(context: TestContext): string {
  return path.join(temporaryDirectory(context), "peer.sock");
}

/** An archive over a list, which may grow, and from which everything through an id may be gone. */
export class ListArchive {
  readonly component: string;
  readonly messages: Message[];
  trimmedThrough = 0n;

  constructor(messages: readonly Message[], component = flow) {
    this.messages = [...messages];
    this.component = component;
  }

  /** The same as a buffer serves it. */
  get archive(): BufferArchive {
    return polledArchive(
      {
        bounds: async () => {
          const minId = this.kept().at(0)?.id;
          const maxId = this.messages.at(-1)?.id;
          return maxId === undefined ? null : { minId: minId ?? maxId + 1n, maxId };
        },
        read: async (fromId, limit) => {
          if (fromId <= this.trimmedThrough) {
            throw new DataTrimmed(fromId, this.trimmedThrough + 1n);
          }
          const begin = firstFrom(this.messages, fromId);
          const found = this.messages.slice(begin, begin + limit);
          if (isBatch(found)) return found;
          throw new DataNotYetAvailable(fromId, this.messages.at(-1)?.id ?? 0n);
        },
      },
      { component: this.component, pollIntervalMs: 1 },
    );
  }

  private kept(): Message[] {
    return this.messages.filter(({ id }) => id > this.trimmedThrough);
  }
}

function firstFrom(messages: readonly Message[], fromId: bigint): number {
  const index = messages.findIndex(({ id }) => id >= fromId);
  return index === -1 ? messages.length : index;
}

/** An archive whose calls all do the same, whatever they are. */
export function archiveThat(does: () => Promise<never>, component = flow): BufferArchive {
  return {
    component,
    read: does,
    bounds: does,
    status: does,
    digest: does,
    // eslint-disable-next-line require-yield
    async *follow() {
      await does();
    },
  };
}

/** Until the test is over. */
export async function serve(
  context: TestContext,
  flows: readonly BufferArchive[],
  options: Partial<ServeOptions> = {},
): Promise<BufferServer> {
  const server = await serveBuffers({ flows, listen: { path: socketIn(context) }, ...options });
  context.after(() => server[Symbol.asyncDispose]());
  return server;
}

/** Until the test is over. */
export function connect(
  context: TestContext,
  address: string,
  options: Partial<PeerOptions> = {},
): Peer {
  const peer = connectPeer({ address, flow, ...options });
  context.after(() => peer[Symbol.asyncDispose]());
  return peer;
}

/** Each call there is, of a peer that is to refuse them all. */
export function callsOf(peer: Peer): (() => Promise<unknown>)[] {
  return [
    () => peer.read(1n, 1),
    () => peer.status(),
    () => peer.digest(1n, 2n),
    () => peer.follow(1n).next(),
  ];
}
