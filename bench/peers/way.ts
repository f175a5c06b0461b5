/** What a Node user has today to bring messages from one end to the other, seen all alike. */
import type { MessagePort } from "node:worker_threads";

/** Takes one message: `length` bytes of `view` from `offset` on, valid until it returns. */
export type Taker = (view: DataView, offset: number, length: number) => void;

/** One end of a way. Messages go in both directions. */
export interface Link extends AsyncDisposable {
  /** Copies the payload: the caller writes it anew as soon as this returns. */
  send(payload: Uint8Array): void;
  /** Sends on what is not yet sent. Resolves when there is room for more. */
  flush(): Promise<void>;
}

/** Where two ends meet. */
export interface Address {
  /** Of this run alone: for the files of sockets, and as a name. */
  readonly directory: string;
  readonly redisUrl: string | undefined;
  /** The end's own: threads only. */
  readonly port: MessagePort | undefined;
}

export interface Way {
  /** Resolves when the other end may dial. */
  listen(address: Address, taker: Taker): Promise<Link>;
  dial(address: Address, taker: Taker): Promise<Link>;
}

const ways = {
  "message-port": async () => (await import("./message-port.ts")).messagePort,
  "unix-socket": async () => (await import("./unix-socket.ts")).unixSocket,
  zeromq: async () => (await import("./zeromq.ts")).zeromq,
  redis: async () => (await import("./redis.ts")).redis,
} satisfies Record<string, () => Promise<Way>>;

export type WayName = keyof typeof ways;

export const wayNames = Object.keys(ways) as WayName[];

/** Loads that way alone: of some, loading takes longer than a small run. */
export async function loadWay(name: WayName): Promise<Way> {
  return ways[name]();
}
