/** The start of a leader: what it missed from its peers, then live. */
import { checkFunctions, checkOptions, type OptionNames } from "../arguments.ts";
import { beginning } from "../chain.ts";
import { GaplessError, isGaplessError } from "../errors.ts";
import type { Archive, Repair, Sink, Source } from "../flow/endpoints.ts";
import { pump } from "../flow/pump.ts";
import type { LossRecorder } from "./loss-ledger.ts";
import { groupNames, PeerGroup, type GroupOptions } from "./peer-group.ts";

export interface RecoverOptions extends Omit<GroupOptions, "signal" | "ledger"> {
  /** Where the messages go, a `MsgBuffer`: its sink says how far it has come. */
  readonly buffer: LossRecorder & { sink(): Sink };
  /** Where new messages come from: a channel of the bus, a queue, a topic. */
  readonly live: Source;
  /** Ends it after the batch under way. */
  readonly signal: AbortSignal;
  /** Called once, when the buffer has everything through the first live batch. */
  readonly onRecovered?: (recovered: Recovered) => void;
  /** As of `pump`. */
  readonly onProgress?: (position: bigint, repair: Repair) => void;
}

const { ledger: _ownBuffer, ...sharedNames } = groupNames;
const optionNames = {
  ...sharedNames,
  buffer: true,
  live: true,
  onRecovered: true,
  onProgress: true,
} as const satisfies OptionNames<RecoverOptions>;

/** What a start amounted to. */
export interface Recovered {
  /** Newest id in the buffer. */
  readonly position: bigint;
  /** Messages that came from peers. */
  readonly filled: number;
}

/**
 * Reads the first live message, fills what is missing between the newest of the buffer and its
 * predecessor from the peers, and goes on with what is live; later gaps are filled the same way.
 * While nothing comes live, what the peers have is taken from them. Runs until the live source
 * ends, or the signal aborts. Returns the position of the buffer.
 *
 * @throws as `fillGap` where a gap cannot be filled; as `pump` otherwise. Nothing is acknowledged
 *   that the buffer does not have, so running it again is always safe.
 */
export async function recoverLeader(options: RecoverOptions): Promise<bigint> {
  checkOptions("recoverLeader", options, optionNames);
  checkFunctions(options, "onRecovered", "onProgress");
  const { buffer, live, signal, onRecovered, onProgress } = options;
  const group = new PeerGroup({ ...options, ledger: buffer });
  const sink = buffer.sink();
  let missingThrough = beginning;
  let failure: GaplessError | undefined;

  /** What the pump is told instead: it asks again after an advice to, and we have done that. */
  const insteadOf = (error: unknown): unknown => {
    if (signal.aborted) return new GaplessError("PEER_UNAVAILABLE", "Aborted.", { cause: error });
    if (!isGaplessError(error)) return error;
    failure = error;
    return new GaplessError("GAP_NOT_FILLED", error.message, { cause: error });
  };
  const archive: Archive = {
    async read(fromId) {
      const wanted = missingThrough < fromId ? fromId : missingThrough;
      try {
        return await group.next(fromId - 1n, wanted);
      } catch (error) {
        throw insteadOf(error);
      }
    },
    async bounds() {
      try {
        const maxId = await group.maxId();
        return maxId === beginning ? null : { minId: 1n, maxId };
      } catch (error) {
        throw signal.aborted ? insteadOf(error) : error;
      }
    },
  };

  let position = await sink.position();
  let filled = 0;
  try {
    return await pump({
      source: watchFirst(live, () => onRecovered?.({ position, filled })),
      sink,
      archives: [archive],
      signal,
      onGap: (_, throughId) => (missingThrough = throughId),
      onProgress: (newPosition, repair) => {
        position = newPosition;
        filled += repair.messages;
        onProgress?.(newPosition, repair);
      },
    });
  } catch (error) {
    throw failure ?? error;
  }
}

/** The same source; tells when its first live batch was taken and dealt with. */
function watchFirst(live: Source, onFirst: () => void): Source {
  return {
    pending: () => live.pending(),
    acknowledge: (throughId) => live.acknowledge(throughId),
    async *live(signal) {
      let isFirst = true;
      for await (const batch of live.live(signal)) {
        yield batch;
        // Whoever asks for the next one is through with this one.
        if (isFirst && batch !== null) {
          isFirst = false;
          onFirst();
        }
      }
    },
  };
}
