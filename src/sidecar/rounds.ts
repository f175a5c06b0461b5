/**
 * A job that goes on in a thread of its own, beside a hot thread that never waits for it, and tells
 * what is new. One piece of news is on its way at a time: while nobody hears, the thread puts what
 * comes into the next one, so that nothing grows and nothing is lost.
 */
import { describeError, GaplessError } from "../errors.ts";
import { nudge, roundWord, roundWords, type RoundNews, type RoundsData } from "./serve-rounds.ts";
import { startSidecar, type Sidecar } from "./sidecar.ts";

export interface RoundsOptions<News> {
  /** Of the thread. */
  readonly name: string;
  /** Between the end of a round and the beginning of the next. */
  readonly intervalMs: number;
  readonly onNews: (news: News) => void;
  /** Given what nobody is told of any more, as it was closed before. */
  readonly onUnheard?: (news: News) => void;
  /** Told when rounds begin to fail, and of a thread that has died. It goes on. */
  readonly onFailure?: ((error: GaplessError) => void) | undefined;
}

const restartMs = 1000;

export class RoundsSidecar<News> implements AsyncDisposable {
  private readonly words = new Int32Array(new SharedArrayBuffer(roundWords * 4));
  private readonly sidecar: Sidecar<"go", RoundNews<News>>;
  private readonly options: RoundsOptions<News>;
  private closing: Promise<void> | undefined;

  /** @param module Calls `serveRounds`, and gets `task`. */
  constructor(module: URL, task: unknown, options: RoundsOptions<News>) {
    const { name, intervalMs } = options;
    const data: RoundsData = { words: this.words, task, intervalMs };
    this.options = options;
    this.sidecar = startSidecar(module, data, {
      name,
      requestsMax: 1,
      onReply: (news) => this.hear(news),
      onFailure: (error) => {
        this.fail(error);
        this.restart();
      },
    });
    this.go();
  }

  /** Has a round begin, without waiting for it. */
  nudge(): void {
    nudge(this.words);
  }

  /** Ends the thread behind the round that is under way. Nothing is told afterwards. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async end(): Promise<void> {
    Atomics.store(this.words, roundWord.stopped, 1);
    this.nudge();
    await this.sidecar.close();
    for (let told = this.sidecar.take(); told !== undefined; told = this.sidecar.take()) {
      this.hear(told);
    }
  }

  private go(): void {
    if (this.closing === undefined && !this.sidecar.post("go")) this.restart();
  }

  private restart(): void {
    if (this.closing === undefined) setTimeout(() => this.go(), restartMs).unref();
  }

  private hear(told: RoundNews<News>): void {
    try {
      const { onNews, onUnheard } = this.options;
      if (told.kind === "news") (this.closing === undefined ? onNews : onUnheard)?.(told.news);
      else this.fail(new GaplessError(told.code, told.text));
    } finally {
      // SYNC round-heard: the next news may be told; pairs with wasHeard.
      Atomics.add(this.words, roundWord.heard, 1);
    }
  }

  private fail(error: GaplessError): void {
    const { onFailure } = this.options;
    if (this.closing !== undefined) return;
    if (onFailure !== undefined) onFailure(error);
    else process.emitWarning(describeError(error), { code: error.code, type: "Gapless" });
  }
}
