/** When a strategy of examples/queue trades, and on which book. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  initialState,
  next,
  type Action,
  type StrategyEvent,
  type StrategyState,
} from "../../../examples/queue/strategy-state.ts";

const initialized = { kind: "initialized" } as const;
const connected = { kind: "connected" } as const;
const disconnected = { kind: "disconnected" } as const;
const lost = { kind: "lost" } as const;
const snapshot = (update: number): StrategyEvent => ({ kind: "snapshot", update });
const delta = (update: number): StrategyEvent => ({ kind: "delta", update });

/** What comes of the events: the last state, and all actions. */
function play(...events: StrategyEvent[]): StrategyState & { actions: Action[] } {
  const actions: Action[] = [];
  let state = initialState;
  for (const event of events) {
    const step = next(state, event);
    ({ state } = step);
    actions.push(...step.actions);
  }
  return { ...state, actions };
}

const trading = [initialized, connected, snapshot(10), delta(11)];

test("a strategy trades once its feed is there and it has a book", () => {
  assert.equal(play().phase, "Initializing");
  assert.equal(play(initialized).phase, "WaitingForFeed");
  assert.equal(play(initialized, connected).phase, "WaitingForSnapshot");
  assert.deepEqual(play(...trading), {
    phase: "Trading",
    update: 11,
    actions: ["replace", "apply"],
  });
});

test("deltas before the first snapshot are discarded", () => {
  const { phase, update, actions } = play(initialized, connected, delta(8), delta(9));
  assert.deepEqual([phase, update], ["WaitingForSnapshot", undefined]);
  assert.deepEqual(actions, ["discard", "discard"]);
});

test("a feed that is gone has every order cancelled, once", () => {
  const { phase, update, actions } = play(...trading, disconnected);
  assert.deepEqual([phase, update], ["WaitingForFeed", 11]);
  assert.deepEqual(actions.slice(2), ["cancel-all"]);
  const waiting = play(initialized, connected, disconnected);
  assert.deepEqual(waiting.actions, []);
});

test("a feed that goes on where it was is traded on at once", () => {
  const { phase, update, actions } = play(...trading, disconnected, connected, delta(12));
  assert.deepEqual([phase, update], ["Trading", 12]);
  assert.deepEqual(actions.slice(2), ["cancel-all", "apply"]);
});

test("a feed that has missed an update is traded on from its next snapshot", () => {
  const back = [...trading, disconnected, connected, delta(13), delta(14)];
  const waiting = play(...back);
  assert.deepEqual([waiting.phase, waiting.update], ["WaitingForSnapshot", undefined]);
  assert.deepEqual(waiting.actions.slice(2), ["cancel-all", "discard", "discard"]);
  const { phase, update, actions } = play(...back, snapshot(15), delta(16));
  assert.deepEqual([phase, update], ["Trading", 16]);
  assert.deepEqual(actions.slice(-2), ["replace", "apply"]);
});

test("what a dead feed has left to read keeps the book, and is not traded on", () => {
  const { phase, update } = play(...trading, disconnected, delta(12), delta(13));
  assert.deepEqual([phase, update], ["WaitingForFeed", 13]);
  assert.equal(play(...trading, disconnected, delta(12), connected, delta(13)).phase, "Trading");
});

test("messages that are lost end trading until the next snapshot", () => {
  const { phase, update, actions } = play(...trading, lost, delta(12));
  assert.deepEqual([phase, update], ["WaitingForSnapshot", undefined]);
  assert.deepEqual(actions.slice(2), ["cancel-all", "discard"]);
  assert.equal(play(...trading, lost, snapshot(20)).phase, "Trading");
});

test("a delta that the snapshot had already is discarded", () => {
  assert.deepEqual(play(...trading, snapshot(20), delta(20), delta(21)).actions.slice(2), [
    "replace",
    "discard",
    "apply",
  ]);
});

test("an event that cannot come is refused", () => {
  assert.throws(() => play(connected), /connected cannot come in the phase Initializing/);
  assert.throws(() => play(initialized, disconnected), /disconnected cannot come/);
  assert.throws(() => play(initialized, connected, connected), /connected cannot come/);
  assert.throws(() => play(delta(1)), /delta cannot come in the phase Initializing/);
});

test("whatever comes, no strategy trades on a book with a hole in it, or without a feed", () => {
  const updates = fc.integer({ min: 1, max: 12 });
  const events = fc.array(
    fc.oneof(
      fc.constantFrom<StrategyEvent>(connected, disconnected, lost),
      updates.map(snapshot),
      updates.map(delta),
    ),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(events, (all) => {
      let { state } = next(initialState, initialized);
      let isConnected = false;
      let hasOrders = false;
      let book: number | undefined;
      for (const event of all) {
        // Discovery tells of each change once.
        if (event.kind === "connected" && isConnected) continue;
        if (event.kind === "disconnected" && !isConnected) continue;
        if (event.kind === "connected") isConnected = true;
        if (event.kind === "disconnected") isConnected = false;
        const { state: after, actions } = next(state, event);
        for (const action of actions) {
          if (action === "cancel-all") hasOrders = false;
          else if (action === "apply") {
            assert.ok(event.kind === "delta" && book !== undefined && event.update === book + 1);
            book = event.update;
          } else if (action === "replace") {
            assert.ok(event.kind === "snapshot");
            book = event.update;
          }
        }
        if (event.kind === "lost") book = undefined;
        state = after;
        if (state.phase === "Trading") {
          assert.ok(isConnected);
          assert.equal(state.update, book);
          hasOrders = true;
        } else {
          assert.equal(hasOrders, false, "orders are in the market, and nobody looks after them");
        }
      }
    }),
  );
});
