/** How far a buffer is behind those that it follows. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BufferArchive } from "../buffer/buffer.ts";

type Peer = Pick<BufferArchive, "status">;

/** A collection does not wait longer for a peer. */
const patienceMs = 1000;

/**
 * Asks the peers, each time, for the newest id that one of them has. By ids; 0 for whoever is ahead
 * of them, undefined as long as none has ever answered.
 */
export function lagBehind(
  buffer: { readonly lastId: bigint },
  peers: readonly Peer[],
): () => Promise<number | undefined> {
  let newestId: bigint | undefined;
  return async () => {
    for (const id of await Promise.all(peers.map(newestOf))) {
      // One that is down takes nothing back of what it has said.
      if (id !== undefined && id >= (newestId ?? 0n)) newestId = id;
    }
    if (newestId === undefined) return undefined;
    return newestId > buffer.lastId ? Number(newestId - buffer.lastId) : 0;
  };
}

/** 0n where it has nothing; undefined where it does not answer. */
async function newestOf(peer: Peer): Promise<bigint | undefined> {
  const over = new AbortController();
  try {
    const late = sleep(patienceMs, undefined, { signal: over.signal, ref: false });
    const status = await Promise.race([peer.status(), late]);
    return status === undefined ? undefined : (status.maxId ?? 0n);
  } catch {
    return undefined;
  } finally {
    over.abort();
  }
}
