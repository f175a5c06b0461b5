/** A stream that has ended is well, whoever has left it and however many lanes it has. */
import assert from "node:assert/strict";
import test from "node:test";
import { judgeHealth, openInspector, type BusSnapshot } from "gapless/bus";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

const message = new Uint8Array(40);
const withBackup: Settings = { keys: { type: "SPMC", backup_producer: "understudy" } };

/** Whether it is well, all thresholds of time being over; with what is said, and what is seen. */
function judge(snapshot: BusSnapshot): unknown[] {
  const { status, reasons } = judgeHealth(snapshot, { silentMs: 0 });
  const lanes = snapshot.channels.flatMap(({ lanes }) => lanes);
  const states = lanes.map(({ consumers }) => consumers.map(({ state }) => state).join());
  return [status, reasons.map(({ text }) => text).join(), ...states];
}

test("of two priorities one that was never used ends with the other", (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { keys: { priorities: 2 } };
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  using inspector = openInspector(directory);
  const publisher = engine.publisher(channelName);
  const subscriber = ledger.subscriber(channelName);
  publisher.offer(message);
  publisher.finish();
  const unread = inspector.inspect().channels[0]?.lanes.map(({ consumers }) => consumers[0]?.state);
  assert.deepEqual(unread, ["reading", "ended"]);
  subscriber.poll(() => undefined, 10);
  subscriber.release();
  publisher.close();
  subscriber.close();
  for (const bus of [engine, inspector]) {
    assert.deepEqual(judge(bus.inspect()), ["Healthy", "", "ended", "ended"]);
  }
});

test("while a producer has the other priority open, nothing has ended", (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { keys: { priorities: 2 } };
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  ledger.subscriber(channelName);
  const urgent = engine.publisher(channelName, { priority: 1 });
  engine.publisher(channelName).finish();
  const states = (): unknown[] => judge(engine.inspect()).slice(2);
  assert.deepEqual(states(), ["reading", "reading"]);
  urgent.close();
  assert.deepEqual(states(), ["ended", "ended"]);
});

test("what a backup ended has ended, whatever its dead predecessor never said", async (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, withBackup);
  const [lane] = file.lanes;
  using engine = openAs(directory, "engine", withBackup);
  using understudy = openAs(directory, "understudy", withBackup);
  using ledger = openAs(directory, "ledger", withBackup);
  using inspector = openInspector(directory);
  engine.publisher(channelName).offer(message);
  const subscriber = ledger.subscriber(channelName);
  declareDead(lane, lane.producer(0));
  const publisher = await understudy.standby(channelName, AbortSignal.timeout(10_000));
  publisher.offer(message);
  publisher.finish();
  assert.equal(
    subscriber.poll(() => undefined, 10),
    2,
  );
  subscriber.release();
  subscriber.close();
  for (const bus of [understudy, inspector]) {
    assert.deepEqual(judge(bus.inspect()), ["Healthy", "", "ended"]);
  }
  file.unmap();
});
