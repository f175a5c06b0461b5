/**
 * npm run example examples/queue/strategy.ts [DIRECTORY]
 *
 * Follows the book of a feed that may come later, die and come back, and says when it may trade.
 * Start it whenever you like; kill the feed and start it again. Ctrl-C ends it.
 */
import { PassiveDiscovery, type MessageHandler, type Subscriber } from "gapless/queue";
import { setTimeout as pause } from "node:timers/promises";
import {
  applyDelta,
  bookAfter,
  decodeSnapshot,
  messageType,
  updateOf,
  type Book,
} from "./market-data.ts";
import { initialState, next, type Action, type StrategyEvent } from "./strategy-state.ts";

const [, , directory = `${import.meta.dirname}/data`] = process.argv;
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
process.once("SIGTERM", () => stop.abort());

let state = initialState;
let book: Book = [];
let subscriber: Subscriber | undefined;
/** Since it last traded: whether it had to begin with a new book, and what it left out. */
let hasNewBook = false;
let discarded = 0;
console.log(state.phase);

/** Does what an event asks for, and says where that leads. */
function tell(event: StrategyEvent, why: string, act?: (action: Action) => void): void {
  const { phase } = state;
  const step = next(state, event);
  state = step.state;
  for (const action of step.actions) {
    if (action === "cancel-all") cancelAll();
    else if (action === "discard") discarded++;
    else act?.(action);
  }
  if (state.phase === phase) return;
  console.log(state.phase === "Trading" ? `Trading: ${basis()}` : `${state.phase}: ${why}`);
}

/** Where the orders of a real strategy would be taken out of the market. */
function cancelAll(): void {
  console.log("all orders cancelled");
}

/** What the book is from that is traded on from now on. It is that of the exchange, or it ends. */
function basis(): string {
  const { update = 0 } = state;
  if (book.join() !== bookAfter(update).join()) throw new Error(`update ${update}: a wrong book`);
  const from = hasNewBook ? "on a snapshot" : "on the book that it had";
  const text = discarded > 0 ? `${from}, ${discarded} deltas discarded` : from;
  hasNewBook = false;
  discarded = 0;
  return text;
}

const onMessage: MessageHandler = ({ view }, offset) => {
  const hasBook = state.update !== undefined;
  const isSnapshot = subscriber?.envelope.type === messageType.snapshot;
  const event = {
    kind: isSnapshot ? "snapshot" : "delta",
    update: updateOf(view, offset),
  } as const;
  tell(event, `update ${event.update} is behind a gap`, (action) => {
    if (action === "apply") applyDelta(book, view, offset);
    else book = decodeSnapshot(view, offset);
    hasNewBook ||= !hasBook;
  });
};

await using discovery = new PassiveDiscovery(directory, "strategy", {
  // Longer than any pause of a feed that is well.
  ttlMs: 3000,
  // The first time it begins with what comes, and where its place was deleted as well.
  subscriber: {
    start: "resume-latest",
    onLoss: ({ cause, from, to }) => tell({ kind: "lost" }, `${cause}: ${from} to ${to}`),
  },
});
discovery.on("connected", (found) => {
  subscriber = found;
  tell({ kind: "connected" }, `the feed has epoch ${found.writerStatus(1000).epoch}`);
});
discovery.on("disconnected", (reason) => tell({ kind: "disconnected" }, reason));
tell({ kind: "initialized" }, directory);

while (!stop.signal.aborted) {
  if (subscriber === undefined || subscriber.isClosed) await pause(10);
  else if (subscriber.poll(onMessage, 256) > 0) subscriber.commit();
  else await subscriber.wait(100, stop.signal);
}
