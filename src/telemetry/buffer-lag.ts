/** How far a buffer is behind those that it follows. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BufferArchive } from "../buffer/buffer.ts";

/** A collection does not wait longer for a peer. */
const patienceMs = 1000;

/** By ids; 0 for whoever is ahead, undefined where no peer has answered. */
export async function idsBehind(
  { lastId }: { readonly lastId: bigint },
  peers: readonly Pick<BufferArchive, "status">[],
): Promise<number | undefined> {
  if (peers.length === 0) return undefined;
  const known = (await Promise.all(peers.map(newestOf))).filter((id) => id !== undefined);
  if (known.length === 0) return undefined;
  const newest = known.reduce((greatest, id) => (id > greatest ? id : greatest), 0n);
  return newest > lastId ? Number(newest - lastId) : 0;
}

/** 0n where it has nothing; undefined where it does not answer. */
async function newestOf(peer: Pick<BufferArchive, "status">): Promise<bigint | undefined> {
  const giveUp = new AbortController();
  try {
    const late = sleep(patienceMs, undefined, { signal: giveUp.signal, ref: false });
    const status = await Promise.race([peer.status(), late]);
    return status === undefined ? undefined : (status.maxId ?? 0n);
  } catch {
    // Down, or closed: whoever watches the lag sees that there is none.
    return undefined;
  } finally {
    giveUp.abort();
  }
}
