/**
 * When a strategy may trade: a pure function of what it is told. No clock, no queue, no orders.
 *
 *   Initializing ── initialized ──► WaitingForFeed ◄──────── disconnected ────────┐
 *                                        │                   (cancel all)         │
 *                                    connected                                    │
 *                                        ▼                                        │
 *                               WaitingForSnapshot ── snapshot, or a delta ──► Trading
 *                                   (discard)         that goes on with the       │
 *                                        ▲            book that it has            │
 *                                        └──────── a delta behind a gap ──────────┘
 *                                                  (cancel all)
 *
 * The book outlives a disconnect: a feed that comes back and goes on where it was is traded on at
 * once. One that has missed something is not, until it has sent a snapshot.
 */
export type Phase = "Initializing" | "WaitingForFeed" | "WaitingForSnapshot" | "Trading";

/** All that there is to remember. */
export interface StrategyState {
  readonly phase: Phase;
  /** Number of the newest update that the book has; undefined where it has none to go on with. */
  readonly update: number | undefined;
}

/** What a strategy is told, in the order in which it happened. */
export type StrategyEvent =
  | { readonly kind: "initialized" }
  | { readonly kind: "connected" }
  | { readonly kind: "disconnected" }
  /** Messages of the queue are missing: deleted, damaged, or taken back by a power loss. */
  | { readonly kind: "lost" }
  /** The whole book, as it is after the update of that number. */
  | { readonly kind: "snapshot"; readonly update: number }
  /** One change of the book. */
  | { readonly kind: "delta"; readonly update: number };

/**
 * What is to be done about it, before the next event:
 *
 *   replace     the book is the one in the snapshot
 *   apply       the delta is to be applied to the book
 *   discard     the message is not to be used
 *   cancel-all  no order may stay in the market
 */
export type Action = "replace" | "apply" | "discard" | "cancel-all";

/** What an event leads to. */
export interface Step {
  readonly state: StrategyState;
  readonly actions: readonly Action[];
}

export const initialState: StrategyState = { phase: "Initializing", update: undefined };

/** What becomes of a strategy by an event. Throws for one that cannot come in its phase. */
export function next(state: StrategyState, event: StrategyEvent): Step {
  const { phase } = state;
  switch (event.kind) {
    case "initialized":
      expect(phase === "Initializing", state, event);
      return { state: { ...state, phase: "WaitingForFeed" }, actions: [] };
    case "connected":
      expect(phase === "WaitingForFeed", state, event);
      return { state: { ...state, phase: "WaitingForSnapshot" }, actions: [] };
    case "disconnected":
      expect(phase === "WaitingForSnapshot" || phase === "Trading", state, event);
      return { state: { ...state, phase: "WaitingForFeed" }, actions: cancelled(phase) };
    case "lost":
      return { state: withoutBook(state), actions: cancelled(phase) };
    case "snapshot":
      expect(phase !== "Initializing", state, event);
      return { state: { phase: started(phase), update: event.update }, actions: ["replace"] };
    case "delta":
      expect(phase !== "Initializing", state, event);
      return takeDelta(state, event.update);
    default:
      throw new Error(`no such event: ${JSON.stringify(event satisfies never)}`);
  }
}

function takeDelta(state: StrategyState, update: number): Step {
  const { phase, update: newest } = state;
  // The snapshot that came before it had it already.
  if (newest !== undefined && update <= newest) return { state, actions: ["discard"] };
  if (newest !== undefined && update === newest + 1) {
    return { state: { phase: started(phase), update }, actions: ["apply"] };
  }
  return { state: withoutBook(state), actions: [...cancelled(phase), "discard"] };
}

/** What a dead feed has left to read keeps the book up to date, and is nothing to trade on. */
function started(phase: Phase): Phase {
  return phase === "WaitingForFeed" ? phase : "Trading";
}

function withoutBook({ phase }: StrategyState): StrategyState {
  return { phase: phase === "Trading" ? "WaitingForSnapshot" : phase, update: undefined };
}

function cancelled(phase: Phase): Action[] {
  return phase === "Trading" ? ["cancel-all"] : [];
}

function expect(isPossible: boolean, state: StrategyState, { kind }: StrategyEvent): void {
  if (!isPossible) throw new Error(`${kind} cannot come in the phase ${state.phase}`);
}
