/** Brings what is missing from peers: in chain order, whole, or an error that says why not. */
import { checkOptions, wrong, type OptionNames } from "../arguments.ts";
import { lastIdOf, type Batch } from "../message.ts";
import { groupNames, PeerGroup, throughOnly, type GroupOptions } from "./peer-group.ts";
import { checkId } from "./range.ts";

export interface FillOptions extends GroupOptions {
  /** What is there already: the first message applied follows on it. 0n where nothing is. */
  readonly afterId: bigint;
  /** The end of what is missing, itself included. */
  readonly throughId: bigint;
  /** Takes the messages, in order; what it returned from is not asked for again. */
  readonly apply: (batch: Batch) => Promise<void>;
}

const optionNames = {
  ...groupNames,
  afterId: true,
  throughId: true,
  apply: true,
} as const satisfies OptionNames<FillOptions>;

/** What a fill amounted to. */
export interface FilledGap {
  readonly messages: number;
  /** Id of the last message applied; `afterId` where there was none to apply. */
  readonly lastId: bigint;
}

/**
 * Applies everything behind `afterId` through `throughId`. Peers are asked which range they have,
 * and the best is read from; where it fails, lies or answers too slowly, another one goes on from
 * where it was. Ids may skip: it is done when the chain shows that nothing is missing.
 *
 * @throws GaplessError CONFIG_INVALID; InvalidOperation for what is no id; DataTrimmed where all
 *   peers have trimmed the next message, after `onLoss` was told; GaplessError PEER_UNAVAILABLE
 *   where nobody gave it for `timeoutMs`, with who was asked and what each said; whatever `apply`
 *   throws. What was applied stays applied.
 */
export async function fillGap(options: FillOptions): Promise<FilledGap> {
  checkOptions("fillGap", options, optionNames);
  const { afterId, throughId, apply } = options;
  if (typeof apply !== "function") throw wrong("apply", apply, "a function");
  checkId("afterId", afterId);
  checkId("throughId", throughId);
  const group = new PeerGroup(options);
  let lastId = afterId;
  let messages = 0;
  while (lastId < throughId) {
    const batch = throughOnly(await group.next(lastId, throughId), throughId);
    // The next message there is lies behind the range.
    if (batch === undefined) break;
    await apply(batch);
    lastId = lastIdOf(batch);
    messages += batch.length;
  }
  return { messages, lastId };
}
