/**
 * Several peers as one: what one of them cannot give, another one is asked for.
 *
 *   each round   ask Status of those not tried yet ─► read from the best ─► its chain holds: done
 *                     ▲                                     │
 *                     └──────── what it said instead ◄──────┘
 *   after it     all are out, or all have trimmed it: an error; else a pause, and the next round
 *
 * The best is who has the whole range and says so first, else who has the most of it. Who has
 * just given a right answer is asked again without a round.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { checkArray, checkFunctions, checkWhole, wrong, type OptionNames } from "../arguments.ts";
import { beginning, follow } from "../chain.ts";
import { GaplessError, isGaplessError } from "../errors.ts";
import { isBatch, lastIdOf, type Batch, type Message } from "../message.ts";
import type { ArchiveStatus, BufferArchive } from "./archive.ts";
import { DataTrimmed } from "./buffer-errors.ts";
import { idMax } from "./cold-layout.ts";
import { answerWithin } from "./answer-within.ts";
import type { LossRecorder } from "./loss-ledger.ts";
import { lie } from "./peer-answer.ts";
import { jitteredMs } from "./peer-backoff.ts";

/** Who can be asked for what is missing: what `connectPeer` makes, or any archive of a buffer. */
export type GapPeer = Pick<BufferArchive, "read" | "status"> & {
  /** What errors call it; "peer 1", "peer 2" and so on where it has none. */
  readonly address?: string;
};

/** What is gone: no peer has the messages behind `afterId` through `throughId` any more. */
export interface LostRange {
  readonly afterId: bigint;
  readonly throughId: bigint;
  /** Who was asked, and what each said. */
  readonly answers: readonly PeerAnswer[];
}

/** What a peer said when it was asked last. */
export interface PeerAnswer {
  readonly address: string;
  readonly answer: string;
}

export interface GroupOptions {
  readonly peers: readonly GapPeer[];
  /**
   * How long it goes on without a single message that is missing: peers start again, and come to
   * have what they had not. Default 30,000.
   */
  readonly timeoutMs?: number;
  /** How long one peer may take for an answer before another one is asked. Default 2,000. */
  readonly answerTimeoutMs?: number;
  /** Messages asked for at a time. Default 8,192. */
  readonly batchMax?: number;
  /** Ends it: whatever is waited for rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Where what is gone is recorded, before DATA_TRIMMED is thrown: the buffer that lacks it. */
  readonly ledger?: LossRecorder;
  /** Told of what is gone, once it is recorded: for an alert. */
  readonly onLoss?: (lost: LostRange) => void | Promise<void>;
}

/**
 *   trimmed   it has had it, and has it no more
 *   behind    it has not come so far: another round may help
 *   silent    it does not answer: another round may help
 *   out       it lies, is damaged, or refuses: it is not asked again
 */
type Verdict = "trimmed" | "behind" | "silent" | "out";

interface Member {
  readonly peer: GapPeer;
  readonly address: string;
  verdict: Verdict;
  answer: string;
  minAvailableId: bigint | undefined;
}

/** What is asked for while the messages before it are dealt with. */
interface ReadAhead {
  readonly member: Member;
  readonly afterId: bigint;
  readonly answer: Promise<Batch | undefined>;
}

export const groupNames = {
  peers: true,
  timeoutMs: true,
  answerTimeoutMs: true,
  batchMax: true,
  signal: true,
  ledger: true,
  onLoss: true,
} as const satisfies OptionNames<GroupOptions>;

const timeoutMsDefault = 30_000;
const answerTimeoutMsDefault = 2000;
const batchMaxDefault = 8192;
const timeoutMsMax = 2 ** 31 - 1;

export class PeerGroup {
  private readonly members: readonly Member[];
  private readonly timeoutMs: number;
  private readonly answerTimeoutMs: number;
  private readonly batchMax: number;
  private readonly signal: AbortSignal | undefined;
  private readonly ledger: LossRecorder | undefined;
  private readonly onLoss: GroupOptions["onLoss"];
  /** Whose last answer was right. */
  private current: Member | undefined;
  private ahead: ReadAhead | undefined;

  constructor(options: GroupOptions) {
    checkArray("peers", options.peers, "peers");
    if (options.peers.length === 0) throw wrong("peers", options.peers, "one peer at least");
    checkFunctions(options, "onLoss");
    for (const peer of options.peers) {
      const { read, status } = Object(peer) as Partial<GapPeer>;
      if (typeof read !== "function" || typeof status !== "function") {
        throw wrong("peers", peer, "peers, or archives of buffers");
      }
    }
    this.members = options.peers.map((peer, index) => ({
      peer,
      address: peer.address ?? `peer ${index + 1}`,
      verdict: "silent",
      answer: "not asked",
      minAvailableId: undefined,
    }));
    const { timeoutMs = timeoutMsDefault, answerTimeoutMs = answerTimeoutMsDefault } = options;
    const { batchMax = batchMaxDefault } = options;
    checkWhole("timeoutMs", timeoutMs, 1, timeoutMsMax);
    checkWhole("answerTimeoutMs", answerTimeoutMs, 1, timeoutMsMax);
    checkWhole("batchMax", batchMax, 1, Number.MAX_SAFE_INTEGER);
    this.timeoutMs = timeoutMs;
    this.answerTimeoutMs = answerTimeoutMs;
    this.batchMax = batchMax;
    this.signal = options.signal;
    this.ledger = options.ledger;
    this.onLoss = options.onLoss;
  }

  /**
   * The messages that follow on `afterId`, each on the one before. `throughId` says how far they
   * are wanted, and decides who is the best to ask; more may come.
   *
   * @throws DataTrimmed where all have trimmed them; GaplessError PEER_UNAVAILABLE with who was
   *   asked and what each said, where nobody gave them in time
   */
  async next(afterId: bigint, throughId: bigint): Promise<Batch> {
    const deadlineMs = performance.now() + this.timeoutMs;
    for (const member of this.members) if (member.verdict !== "out") member.verdict = "silent";
    for (let round = 0; ; round++) {
      const found = await this.ask(afterId, throughId);
      if (found !== undefined) return found;
      const pauseMs = jitteredMs(round);
      const isLast = performance.now() + pauseMs > deadlineMs;
      await this.checkHope(afterId, throughId, isLast);
      const waiting = this.signal === undefined ? {} : { signal: this.signal };
      // An abort ends the pause; the next round begins with a look at the signal.
      await sleep(pauseMs, undefined, waiting).catch(() => undefined);
    }
  }

  /** Newest id that a peer has, and shows; 0n where none has any. */
  async maxId(): Promise<bigint> {
    let maxId = beginning;
    let answered = 0;
    await Promise.all(
      this.candidates(new Set()).map(async (member) => {
        const status = await this.statusOf(member);
        if (status === undefined) return;
        answered++;
        const claimedId = status.maxId ?? beginning;
        if (claimedId <= maxId) return;
        const shown = await this.read(member, claimedId, 1);
        if (shown?.[0]?.id === claimedId && claimedId > maxId) maxId = claimedId;
      }),
    );
    if (answered === 0) throw this.unavailable("what it has");
    return maxId;
  }

  /** One round: undefined where nobody had it, and each has said why. */
  private async ask(afterId: bigint, throughId: bigint): Promise<Batch | undefined> {
    const tried = new Set<Member>();
    for (;;) {
      this.signal?.throwIfAborted();
      const best = this.current ?? (await this.best(afterId, throughId, tried));
      if (best === undefined) return undefined;
      tried.add(best);
      const ahead = await this.takeAhead(best, afterId);
      // Who lied, or refused, is not asked again, whichever question it was.
      const asks = ahead === undefined && best.verdict !== "out";
      const read = asks ? await this.read(best, afterId + 1n, this.batchMax) : ahead;
      const messages = read === undefined ? undefined : this.follows(best, afterId, read);
      this.current = messages === undefined ? undefined : best;
      if (messages === undefined) continue;
      this.readAhead(best, lastIdOf(messages), throughId);
      return messages;
    }
  }

  private readAhead(member: Member, afterId: bigint, throughId: bigint): void {
    if (afterId >= throughId) return;
    // What goes wrong is found again by who asks for it.
    const answer = this.read(member, afterId + 1n, this.batchMax).catch(() => undefined);
    this.ahead = { member, afterId, answer };
  }

  private takeAhead(member: Member, afterId: bigint): Promise<Batch | undefined> | undefined {
    const { ahead } = this;
    this.ahead = undefined;
    if (ahead?.member === member && ahead.afterId === afterId) return ahead.answer;
    return undefined;
  }

  /**
   * Asks all at once. Resolves to the first who says that it has everything; where nobody does,
   * to who has the most of it once all have answered, the quickest of equals.
   */
  private async best(
    afterId: bigint,
    throughId: bigint,
    tried: Set<Member>,
  ): Promise<Member | undefined> {
    let best: Member | undefined;
    let bestThrough = beginning;
    let bestFrom: bigint | undefined;
    const consider = async (member: Member): Promise<Member> => {
      const status = await this.statusOf(member);
      const { minId, maxId = beginning } = status ?? {};
      if (status !== undefined && maxId <= afterId) {
        this.note(member, "behind", `It has only through id=${maxId}.`);
      }
      // Without a read it is not known whether anything was before the oldest.
      const from = minId !== undefined && minId > afterId + 1n ? minId : afterId + 1n;
      const through = maxId < throughId ? maxId : throughId;
      if (status === undefined || maxId <= afterId) {
        tried.add(member);
      } else if (
        bestFrom === undefined ||
        from < bestFrom ||
        (from === bestFrom && through > bestThrough)
      ) {
        [best, bestFrom, bestThrough] = [member, from, through];
      }
      if (best === member && from === afterId + 1n && through === throughId) return member;
      throw new Error("not everything");
    };
    const asked = this.candidates(tried).map(consider);
    return Promise.any(asked).catch(() => best);
  }

  private candidates(tried: ReadonlySet<Member>): Member[] {
    return this.members.filter((member) => member.verdict !== "out" && !tried.has(member));
  }

  /** undefined where it did not say, which is noted. */
  private statusOf(member: Member): Promise<ArchiveStatus | undefined> {
    return this.answerOf(member, () => member.peer.status());
  }

  private read(member: Member, fromId: bigint, limit: number): Promise<Batch | undefined> {
    return this.answerOf(member, () => member.peer.read(fromId, limit), fromId);
  }

  private async answerOf<Answer>(
    member: Member,
    ask: () => Promise<Answer>,
    fromId?: bigint,
  ): Promise<Answer | undefined> {
    try {
      return await answerWithin(ask(), this.answerTimeoutMs, this.signal);
    } catch (error) {
      if (this.signal?.aborted === true || !isGaplessError(error)) throw error;
      member.minAvailableId = error instanceof DataTrimmed ? error.minAvailableId : undefined;
      this.note(member, verdictOf(error, fromId), error.message);
      return undefined;
    }
  }

  /** The messages, where the first follows on `afterId` and each other one on the one before. */
  private follows(member: Member, afterId: bigint, batch: Batch): Batch | undefined {
    let last = afterId;
    for (const message of batch) {
      if (follow(last, message) !== "next") {
        this.note(member, "out", lieAbout(member, last, message));
        return undefined;
      }
      last = message.id;
    }
    return batch;
  }

  private note(member: Member, verdict: Verdict, answer: string): void {
    member.verdict = verdict;
    member.answer = answer;
  }

  /** @throws where no further round can bring it, or is to */
  private async checkHope(afterId: bigint, throughId: bigint, isLast: boolean): Promise<void> {
    const count = (...verdicts: Verdict[]): number =>
      this.members.filter(({ verdict }) => verdicts.includes(verdict)).length;
    const trimmed = count("trimmed");
    // Who has not come so far may have it yet, and has had its time.
    const gone = trimmed + (isLast ? count("behind") : 0);
    if (trimmed > 0 && gone === this.members.length) await this.lose(afterId, throughId);
    if (!isLast && count("behind", "silent") > 0) return;
    throw this.unavailable(`the messages behind id=${afterId} through id=${throughId}`);
  }

  /** @throws DataTrimmed, after it was told */
  private async lose(afterId: bigint, throughId: bigint): Promise<never> {
    const oldest = this.members
      // What any other one has said is of an earlier question.
      .filter(({ verdict }) => verdict === "trimmed")
      .flatMap(({ minAvailableId }) => (minAvailableId === undefined ? [] : [minAvailableId]))
      .reduce<bigint | undefined>((a, b) => (a === undefined || b < a ? b : a), undefined);
    const minAvailableId = oldest ?? throughId + 1n;
    const lostThrough = minAvailableId > throughId ? throughId : minAvailableId - 1n;
    const answers = this.answers();
    this.ledger?.recordLoss({
      cause: "missing",
      consumer: this.ledger.component,
      fromId: afterId + 1n,
      throughId: lostThrough,
      atMs: Date.now(),
    });
    await this.onLoss?.({ afterId, throughId: lostThrough, answers });
    throw new DataTrimmed(afterId + 1n, minAvailableId);
  }

  private unavailable(what: string): GaplessError {
    const answers = this.answers().map(({ address, answer }) => `${address}: ${answer}`);
    const said = answers.join(" | ");
    return new GaplessError("PEER_UNAVAILABLE", `No peer gave ${what}. Asked were ${said}`);
  }

  private answers(): PeerAnswer[] {
    return this.members.map(({ address, answer }) => ({ address, answer }));
  }
}

/** Of an answer to what was read from `fromId` on; undefined where nothing was to be read. */
function verdictOf(error: GaplessError, fromId: bigint | undefined): Verdict {
  switch (error.code) {
    case "DATA_TRIMMED":
      // One that has the message, and says that it is gone, lies; so does who speaks of another.
      return error instanceof DataTrimmed && error.minAvailableId > (fromId ?? idMax)
        ? "trimmed"
        : "out";
    case "DATA_NOT_YET_AVAILABLE":
      return "behind";
    default:
      return error.isTemporary ? "silent" : "out";
  }
}

function lieAbout({ address }: Member, last: bigint, message: Message): string {
  return lie(address, `id=${message.id} has prevId=${message.prevId}`, last, message.id).message;
}

/** Of a batch, what is at most `throughId`; undefined where that is nothing. */
export function throughOnly(batch: Batch, throughId: bigint): Batch | undefined {
  const messages = batch.filter(({ id }) => id <= throughId);
  return isBatch(messages) ? messages : undefined;
}
