/** Commands of a replicated log, and what a replica that applied them has to be. */
import { createHash } from "node:crypto";
import { follow } from "../../src/chain.ts";
import type { LogCommand } from "../../src/flow/replicated-log.ts";
import { packMessages, type Message } from "../../src/message.ts";
import type { Random } from "../../src/random.ts";

/** SHA-256 of messages, as they are encoded. */
export function digestOf(messages: readonly Message[]): string {
  return createHash("sha256").update(packMessages(messages)).digest("hex");
}

/** A plain list that commands are applied to, and who makes new ones for it. */
export class LogModel {
  messages: Message[] = [];
  /** All that were ever there. */
  readonly appended: Message[] = [];
  /** Messages that were proposed again. */
  duplicates = 0;
  /** How many commands no replica takes. */
  refused = 0;

  private readonly random: Random;
  private newest: readonly Message[] = [];

  constructor(random: Random) {
    this.random = random;
  }

  /** A command, as they come: appends most of all, some again, some trims, and some nonsense. */
  next(): LogCommand {
    const choice = this.random.below(20);
    if (choice === 0 && this.newest.length > 0) return { kind: "append", messages: this.newest };
    if (choice === 1) return { kind: "append", messages: [this.messageAfter(this.lastId + 5n)] };
    if (choice === 2) return { kind: "trim", beforeId: this.lastId + 2n };
    if (choice <= 4) return { kind: "trim", beforeId: this.olderId() };
    const messages: Message[] = [];
    for (let count = this.random.below(4); count >= 0; count--) {
      messages.push(this.messageAfter(messages.at(-1)?.id ?? this.lastId));
    }
    return { kind: "append", messages };
  }

  apply(command: LogCommand): void {
    if (command.kind === "trim") {
      if (command.beforeId > this.lastId + 1n) this.refused++;
      else this.messages = this.messages.filter(({ id }) => id >= command.beforeId);
      return;
    }
    const [first] = command.messages;
    const placement = first === undefined ? "broken" : follow(this.lastId, first);
    if (placement === "next") {
      this.messages.push(...command.messages);
      this.appended.push(...command.messages);
      this.newest = command.messages;
    } else if (placement === "duplicate") {
      this.duplicates += command.messages.length;
    } else {
      this.refused++;
    }
  }

  private get lastId(): bigint {
    return this.messages.at(-1)?.id ?? 0n;
  }

  private olderId(): bigint {
    const index = this.random.below(Math.max(1, Math.floor(this.messages.length / 4)));
    return this.messages[index]?.id ?? 0n;
  }

  /** Ids skip now and then. What a message holds follows from its id. */
  private messageAfter(prevId: bigint): Message {
    const id = prevId + BigInt(1 + Math.max(0, this.random.below(12) - 9));
    const bytes = new Uint8Array(Number(id % 70n)).fill(Number(id % 255n) + 1);
    return { id, prevId, timestampNs: id * 7n, bytes };
  }
}
