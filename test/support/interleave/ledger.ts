/**
 * What happened in a run, and what must not have:
 *
 *   torn         a message of which a part is another's
 *   lost         a committed message that a consumer neither got nor was told of
 *   duplicated   one that comes twice, or two with one sequence
 *   reordered    one that comes before an older one, or in another order than elsewhere
 *   invented     one that was never offered, or was taken back; or one that is told to have been
 *                taken back and was not
 *   stuck        a party that never finishes, with nobody left who could make it
 */
export interface Sent {
  readonly id: number;
  /** 0 until the commit has returned. */
  sequence: number;
  /** Whether the producer was told that it was not published. */
  isRefused: boolean;
}

export interface Range {
  readonly from: number;
  readonly to: number;
}

/** What one incarnation of a consumer has been given. */
export interface Taken {
  readonly consumer: string;
  readonly messages: { readonly id: number; readonly sequence: number }[];
  readonly losses: Range[];
  /** What it was told to have been taken back. */
  readonly withdrawn: Range[];
  /** What it was told in the poll under way: who is killed in it has not heard it. */
  readonly pending: { readonly losses: Range[]; readonly withdrawn: Range[] };
  /** Newest sequence that its forebears have got: what comes next may come again, not later. */
  readonly newestBefore: number;
}

/** What a scene allows. */
export interface Allowance {
  /** Committed messages may be overwritten, if the consumer is told. */
  readonly overwriting: boolean;
  /** A message that is not committed may come where its producer died. */
  readonly death: boolean;
}

export class Ledger {
  readonly sent = new Map<number, Sent>();
  readonly taken: Taken[] = [];
  /** Sequences whose producers take them back, and whether they have by now. */
  private readonly withdrawn = new Map<number, boolean>();
  private readonly newestBefore: number;

  /** @param newestBefore Newest sequence that every consumer has taken before the run. */
  constructor(newestBefore: number) {
    this.newestBefore = newestBefore;
  }

  begin(id: number): Sent {
    const sent: Sent = { id, sequence: 0, isRefused: false };
    this.sent.set(id, sent);
    return sent;
  }

  follow(consumer: string): Taken {
    const before = this.taken.findLast((one) => one.consumer === consumer);
    const newestBefore = before === undefined ? this.newestBefore : reached(before);
    const pending = { losses: [], withdrawn: [] };
    const told = { messages: [], losses: [], withdrawn: [], pending };
    const taken: Taken = { consumer, ...told, newestBefore };
    this.taken.push(taken);
    return taken;
  }

  withdraw(sequence: number, isDone: boolean): void {
    this.withdrawn.set(sequence, isDone);
  }

  /** What is known of the messages sent. */
  facts(fold: (value: number) => void): void {
    for (const { id, sequence, isRefused } of this.sent.values()) {
      fold(id);
      fold(isRefused ? -1 : sequence);
    }
    for (const [sequence, isDone] of this.withdrawn) fold(isDone ? sequence : -sequence);
  }

  verdict(allowance: Allowance, isAlive: (taken: Taken) => boolean): string | undefined {
    const idBySequence = new Map<number, number>();
    for (const { id, sequence } of this.sent.values()) {
      if (sequence === 0) continue;
      const other = idBySequence.get(sequence);
      if (other !== undefined) return `duplicated: ${id} and ${other} have sequence ${sequence}`;
      idBySequence.set(sequence, id);
    }
    for (const taken of this.taken) {
      const wrong = this.check(taken, idBySequence) ?? this.checkLosses(taken, allowance);
      if (wrong !== undefined) return `${wrong}, to ${taken.consumer}`;
    }
    for (const taken of this.taken.filter(isAlive)) {
      const newest = reached(taken);
      for (const { id, sequence } of this.sent.values()) {
        if (sequence > newest) return `lost: ${id}, sequence ${sequence}, to ${taken.consumer}`;
      }
    }
    return undefined;
  }

  private check(taken: Taken, idBySequence: Map<number, number>): string | undefined {
    const newestByProducer = new Map<number, number>();
    for (const { id, sequence } of taken.messages) {
      const sent = this.sent.get(id);
      if (sent === undefined && id >= 0) return `invented: ${id}`;
      if (sent?.isRefused === true) return `invented: ${id} was taken back`;
      const known = idBySequence.get(sequence);
      if (known !== undefined && known !== id) return `duplicated: sequence ${sequence}`;
      idBySequence.set(sequence, id);
      const producer = Math.floor(id / 1000);
      const newest = newestByProducer.get(producer) ?? -Infinity;
      if (id <= newest) return `reordered: ${id} comes after ${newest}`;
      newestByProducer.set(producer, id);
    }
    return undefined;
  }

  /** Messages and losses make one row of sequences, and nothing is lost that should not be. */
  private checkLosses(taken: Taken, allowance: Allowance): string | undefined {
    const first = this.taken.find(({ consumer }) => consumer === taken.consumer);
    const row = [
      ...taken.messages.map(({ sequence }) => ({ from: sequence, to: sequence })),
      ...taken.losses,
      ...taken.withdrawn,
    ].toSorted((one, other) => one.from - other.from);
    let next = taken.newestBefore + 1;
    if (taken !== first) next = Math.min(next, row[0]?.from ?? next);
    for (const { from, to } of row) {
      if (from !== next) return `${from < next ? "duplicated" : "lost"}: ${from}, not ${next}`;
      next = to + 1;
    }
    for (const { from, to } of taken.withdrawn) {
      for (let sequence = from; sequence <= to; sequence++) {
        if (!this.withdrawn.has(sequence)) return `invented: ${sequence} was taken back`;
      }
    }
    if (allowance.overwriting) return undefined;
    for (const { from, to } of taken.losses) {
      if (!allowance.death) return `lost: ${from} to ${to}`;
      // Behind a loss it is not told apart.
      if (this.withdrawn.get(from) === true) return `lost: ${from}, which was taken back`;
      for (const { id, sequence } of this.sent.values()) {
        if (sequence >= from && sequence <= to) return `lost: ${id}, sequence ${sequence}`;
      }
    }
    return undefined;
  }
}

/** Newest sequence that a consumer has got or been told of. */
function reached({ messages, losses, withdrawn, newestBefore }: Taken): number {
  const told = [...losses, ...withdrawn].map(({ to }) => to);
  return Math.max(newestBefore, messages.at(-1)?.sequence ?? 0, ...told);
}
