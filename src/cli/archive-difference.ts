/** Whether archives keep the same messages, without moving them: by digests of ranges. */
import type { ArchiveStatus, BufferArchive, RangeDigest } from "../buffer/buffer.ts";
import { describeError, GaplessError, isGaplessError } from "../errors.ts";
import type { Message } from "../message.ts";

export interface NamedArchive {
  readonly name: string;
  readonly archive: BufferArchive;
}

export interface Comparison {
  readonly peers: readonly PeerStatus[];
  /** What all of them have, from its first id through its last; undefined where that is nothing. */
  readonly overlap: Overlap | undefined;
  /** The first id at which one has another message than the others, or none. */
  readonly difference: Difference | undefined;
  /** Names of those that are as far as another one in their log, and keep other ids. */
  readonly divergent: readonly string[];
  readonly isSame: boolean;
}

export interface PeerStatus extends ArchiveStatus {
  readonly name: string;
}

export interface Overlap {
  readonly fromId: bigint;
  readonly throughId: bigint;
  /** What it amounts to; undefined where that differs. */
  readonly count: number | undefined;
  readonly sha256: string | undefined;
}

export interface Difference {
  readonly id: bigint;
  /** By name: the message with that very id, where there is one. */
  readonly found: readonly { readonly name: string; readonly message: Message | undefined }[];
}

/** A trim may come between the question for the ids and the ones for digests. */
const attemptsMax = 5;

/** @throws GaplessError PEER_UNAVAILABLE; what a peer says of its own store, with its name */
export async function compareArchives(archives: readonly NamedArchive[]): Promise<Comparison> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await compareOnce(archives);
    } catch (error) {
      if (!isGaplessError(error, "DATA_TRIMMED") || attempt === attemptsMax) throw error;
    }
  }
}

async function compareOnce(archives: readonly NamedArchive[]): Promise<Comparison> {
  const peers = await askAll(archives, async ({ name, archive }) => ({
    name,
    ...(await archive.status()),
  }));
  const divergent = divergentOf(peers);
  const range = overlapOf(peers);
  if (range === undefined) {
    // Where nobody has anything, nobody has anything else.
    const isSame = divergent.length === 0 && peers.every(({ minId }) => minId === undefined);
    return { peers, overlap: undefined, difference: undefined, divergent, isSame };
  }
  const { fromId, throughId } = range;
  const digests = await digestAll(archives, fromId, throughId);
  const [first] = digests;
  if (first !== undefined && areSame(digests)) {
    const overlap = { ...range, count: first.count, sha256: hexOf(first) };
    const isSame = divergent.length === 0;
    return { peers, overlap, difference: undefined, divergent, isSame };
  }
  const difference = await findDifference(archives, fromId, throughId);
  const overlap = { ...range, count: undefined, sha256: undefined };
  return { peers, overlap, difference, divergent, isSame: false };
}

/**
 * The first id of the range at which they differ, of which it is known that they do. Each digest
 * is of half the range of the one before:
 *
 *   from ......... mid ......... through     from..mid the same: it is behind mid
 *                      mid ..... through     mid.. differs:      it is in there
 */
async function findDifference(
  archives: readonly NamedArchive[],
  fromId: bigint,
  throughId: bigint,
): Promise<Difference> {
  let low = fromId;
  let high = throughId;
  while (low < high) {
    const middle = low + (high - low) / 2n;
    if (areSame(await digestAll(archives, low, middle))) low = middle + 1n;
    else high = middle;
  }
  const id = low;
  const found = await askAll(archives, async ({ name, archive }) => {
    const [next] = await archive.read(id, 1);
    return { name, message: next.id === id ? next : undefined };
  });
  return { id, found };
}

function digestAll(
  archives: readonly NamedArchive[],
  fromId: bigint,
  throughId: bigint,
): Promise<RangeDigest[]> {
  return askAll(archives, ({ archive }) => archive.digest(fromId, throughId));
}

/** Of all, in their order; an error says whose it is. */
async function askAll<Answer>(
  archives: readonly NamedArchive[],
  ask: (archive: NamedArchive) => Promise<Answer>,
): Promise<Answer[]> {
  const answers = archives.map(async (one) => {
    try {
      return await ask(one);
    } catch (error) {
      if (!(error instanceof GaplessError)) throw error;
      const message = `${one.name}: ${describeError(error)}`;
      throw new GaplessError(error.code, message, { cause: error });
    }
  });
  // All of them, before one that failed ends the connections of the others.
  await Promise.allSettled(answers);
  return Promise.all(answers);
}

function overlapOf(
  peers: readonly PeerStatus[],
): { readonly fromId: bigint; readonly throughId: bigint } | undefined {
  let fromId = 0n;
  let throughId: bigint | undefined;
  for (const { minId, maxId } of peers) {
    if (minId === undefined || maxId === undefined) return undefined;
    if (minId > fromId) fromId = minId;
    if (throughId === undefined || maxId < throughId) throughId = maxId;
  }
  return throughId === undefined || fromId > throughId ? undefined : { fromId, throughId };
}

/** Who has applied as much of a log as another one has to keep the same ids. */
function divergentOf(peers: readonly PeerStatus[]): string[] {
  return peers
    .filter(
      (peer) =>
        peer.logPosition > 0n &&
        peers.some(
          (other) =>
            other.logPosition === peer.logPosition &&
            (other.minId !== peer.minId || other.maxId !== peer.maxId),
        ),
    )
    .map(({ name }) => name);
}

function areSame(digests: readonly RangeDigest[]): boolean {
  const [first] = digests;
  return digests.every(
    (digest) =>
      first !== undefined && digest.count === first.count && hexOf(digest) === hexOf(first),
  );
}

function hexOf({ sha256 }: RangeDigest): string {
  return Buffer.from(sha256).toString("hex");
}
