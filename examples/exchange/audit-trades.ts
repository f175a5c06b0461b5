/** Whether a store has the trades that the orders make: each once, in order, and no others. */
import { createHash } from "node:crypto";
import { packMessages, type Message } from "gapless/flow";

/** SHA-256 over trades, one behind the other: ids, times and contents. */
export class TradeDigest {
  private readonly hash = createHash("sha256");

  add(trade: Message): void {
    this.hash.update(packMessages([trade]));
  }

  /** In hexadecimal. To be asked for once, when all are added. */
  end(): string {
    return this.hash.digest("hex");
  }
}

const findingsMax = 3;

/** Follows one store while the trades are made again from the orders. */
export class StoreAudit {
  readonly findings: string[] = [];
  readonly digest = new TradeDigest();
  /** Trades that the store has. */
  kept = 0n;
  lost = 0;
  /** Of those that it has, trades that the orders do not make in this place. */
  duplicated = 0;
  private readonly store: string;
  private readonly trades: AsyncIterator<Message, undefined>;

  constructor(store: string, trades: AsyncIterator<Message, undefined>) {
    this.store = store;
    this.trades = trades;
  }

  /** The next trade of the store has to be this one. */
  async expect(expected: Message): Promise<void> {
    const found = await this.take();
    if (found === undefined) {
      this.lost++;
    } else if (found.id !== expected.id || Buffer.compare(found.bytes, expected.bytes) !== 0) {
      this.find(`trade ${found.id.toString()} of the ${this.store} is not what was matched`);
    }
  }

  /** The store has to have nothing more. */
  async end(): Promise<void> {
    for (;;) {
      const surplus = await this.take();
      if (surplus === undefined) return;
      this.find(`trade ${surplus.id.toString()} of the ${this.store} has no order`);
    }
  }

  private async take(): Promise<Message | undefined> {
    const { value: trade } = await this.trades.next();
    if (trade === undefined) return undefined;
    this.kept++;
    this.digest.add(trade);
    return trade;
  }

  private find(finding: string): void {
    this.duplicated++;
    if (this.findings.length < findingsMax) this.findings.push(finding);
  }
}
