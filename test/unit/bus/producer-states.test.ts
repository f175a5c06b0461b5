/** What is seen of two producers of which one is the backup of the other. */
import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { judgeHealth, openInspector } from "gapless/bus";
import { partyOffset } from "../../../src/bus/layout.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";
import { onlyLane } from "../../support/bus-seen.ts";

const settings: Settings = { keys: { type: "SPMC", backup_producer: "understudy" } };
const message = new Uint8Array(40);

test("a backup is absent until its turn, and whom it fences off while it lives is fenced", async (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, settings);
  const [lane] = file.lanes;
  using engine = openAs(directory, "engine", settings);
  using understudy = openAs(directory, "understudy", settings);
  using inspector = openInspector(directory);
  const states = (): string =>
    onlyLane(inspector.inspect())
      .producers.map(({ state }) => state)
      .join();
  assert.equal(states(), "absent,absent");
  engine.publisher(channelName).offer(message);
  // It waits for a turn that leaves no trace: nobody could tell it from one that is not there.
  const turn = understudy.standby(channelName, AbortSignal.timeout(10_000));
  await pause(50);
  assert.equal(states(), "active,absent");
  declareDead(lane, lane.producer(0));
  assert.equal(states(), "dead,absent");
  const publisher = await turn;
  assert.equal(states(), "dead,active");
  const { notes } = judgeHealth(inspector.inspect());
  assert.match(notes.join(), /^producer engine of channel trades is dead/);
  // It was only silent.
  Atomics.store(lane.words, lane.producer(0) + partyOffset.owner, process.pid);
  assert.equal(states(), "fenced,active");
  publisher.close();
  assert.equal(states(), "fenced,left");
  engine.close();
  assert.equal(states(), "left,left");
  file.unmap();
});

test("who has the end and has written nothing stands by for whom may write", (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, settings);
  const [lane] = file.lanes;
  using engine = openAs(directory, "engine", settings);
  engine.publisher(channelName);
  // As a peer in another language may: it takes its end, half-way in still, before its turn.
  Atomics.store(lane.words, lane.producer(1) + partyOffset.owner, -process.ppid);
  const { producers } = onlyLane(engine.inspect());
  assert.deepEqual(
    producers.map(({ state }) => state),
    ["active", "standby"],
  );
  file.unmap();
});
