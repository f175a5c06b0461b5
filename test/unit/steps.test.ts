import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import test from "node:test";
import { reachedStep, stepChannelName } from "../../src/steps.ts";

test("a step is published to whoever listens, and costs nothing where nobody does", () => {
  const seen: unknown[] = [];
  const listen = (step: unknown): void => void seen.push(step);
  reachedStep("queue.durable");
  subscribe(stepChannelName, listen);
  reachedStep("sink.written");
  reachedStep("flow.applied");
  unsubscribe(stepChannelName, listen);
  reachedStep("flow.acknowledged");
  assert.deepEqual(seen, ["sink.written", "flow.applied"]);
});
