/** A stream that has ended is well, whoever has left it and however many lanes it has. */
import assert from "node:assert/strict";
import test from "node:test";
import { isGaplessError, judgeHealth, openInspector, type BusSnapshot } from "gapless/bus";
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

for (const producers of [["engine"], ["engine", "router"]]) {
  const who = producers.length === 1 ? "a lone producer" : "one of two producers";

  test(`${who} that has finished publishes nothing, and says why`, async (t) => {
    const directory = makeDirectory(t);
    using engine = openAs(directory, "engine", { producers });
    using ledger = openAs(directory, "ledger", { producers });
    const publisher = engine.publisher(channelName);
    const subscriber = ledger.subscriber(channelName);
    publisher.offer(message);
    publisher.finish();
    publisher.finish();
    const isRefused = (error: unknown): boolean =>
      isGaplessError(error, "CLOSED") && error.message.includes("said by finish() that nothing");
    const uses: (() => unknown)[] = [
      () => publisher.claim(8),
      () => publisher.claim(8, publisher.topic("eu")),
      () => publisher.offer(message),
      () => publisher.offerMany([message]),
      () => publisher.waitForRoomBlocking(8, 1000),
    ];
    for (const use of uses) assert.throws(use, isRefused, String(use));
    await assert.rejects(publisher.send(message), isRefused);
    await assert.rejects(publisher.waitForRoom(8), isRefused);
    publisher.commit();
    publisher.abort();
    assert.deepEqual(publisher.last(), message);
    assert.equal(
      subscriber.poll(() => undefined, 10),
      1,
    );
    const [lane] = engine.inspect().channels[0]?.lanes ?? [];
    assert.deepEqual([lane?.sequence, lane?.producers[0]?.errors], [1, 0]);
    publisher.close();
    assert.equal(engine.publisher(channelName).offer(message), 2);
  });

  test(`${who} with a claim open is told of its mistake, and can still settle the claim`, (t) => {
    const directory = makeDirectory(t);
    using engine = openAs(directory, "engine", { producers });
    using ledger = openAs(directory, "ledger", { producers });
    const publisher = engine.publisher(channelName);
    const subscriber = ledger.subscriber(channelName);
    for (const settle of ["commit", "abort"] as const) {
      publisher.claim(8);
      for (const use of [() => publisher.finish(), () => publisher.last()]) {
        assert.throws(use, (error) => isGaplessError(error, "CLAIM_OPEN"), String(use));
      }
      publisher[settle]();
    }
    publisher.finish();
    assert.equal(
      subscriber.poll(() => undefined, 10),
      1,
    );
    assert.equal(subscriber.ended, producers.length === 1);
  });
}
