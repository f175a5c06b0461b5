/** A channel that drops its oldest messages: what a consumer gets is whole, the rest known. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Loss } from "gapless/bus";
import { consumerOffset } from "../../../src/bus/layout.ts";
import { forEachStop, observe } from "../../support/bus-atomics.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  readNumbered,
  type Settings,
} from "../../support/bus-channel.ts";
import { startWorker } from "../../support/bus-processes.ts";
import { kinds, publish, Stage, take } from "../../support/bus-stage.ts";

const dropping: NonNullable<Settings["keys"]> = { backpressure: { mode: "DropOldest" } };

for (const [kind, settings] of kinds) {
  for (const count of [1, 25, 80]) {
    test(`${kind}: ${count} messages that come while a consumer copies tear nothing`, (t) => {
      const stage = new Stage(t, { ...settings, keys: dropping });
      const stops = forEachStop((stopAt) => {
        stage.reset();
        const publisher = stage.publisher();
        const subscriber = stage.subscriber();
        publish(publisher, 30);
        const numbers = observe(
          () => take(subscriber),
          stopAt(() => publish(publisher, count)),
        );
        subscriber.release();
        publish(publisher, 60);
        numbers.push(...take(subscriber));
        stage.assertAllAccountedFor(numbers, publisher.sequence);
      });
      assert.ok(stops > 3);
    });
  }

  test(`${kind}: a consumer that copies and is killed anywhere leaves a channel that goes on`, (t) => {
    const stage = new Stage(t, { ...settings, keys: dropping });
    forEachStop((stopAt) => {
      stage.reset();
      const publisher = stage.publisher();
      const subscriber = stage.subscriber();
      publish(publisher, 30);
      const taken = take(subscriber);
      subscriber.release();
      publish(publisher, 100);
      const successors: number[] = [];
      observe(
        () => publish(publisher, 3),
        stopAt(() => successors.push(...take(stage.subscriber()))),
      );
      if (successors.length === 0) return;
      stage.assertAllAccountedFor([...taken, ...successors], successors.at(-1) ?? 0);
    });
  });
}

test("a consumer that another process laps gets whole messages, and every loss is counted", async (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { messageSizeMax: 496, keys: dropping };
  const file = openFile(directory, settings);
  using bus = openAs(directory, "ledger", settings);
  const losses: Loss[] = [];
  const subscriber = bus.subscriber(channelName, { onLoss: (loss) => losses.push(loss) });
  const last = 100_000;
  startWorker(t, {
    kind: "produce",
    directory,
    settings,
    last,
    batch: 2,
    waiting: "blocking",
    finish: true,
  });
  let count = 0;
  let newest = 0;
  while (!subscriber.ended) {
    const taken = subscriber.poll((memory, offset, length) => {
      const number = readNumbered(memory, offset, length, 496);
      const lost = losses.at(-1);
      if (number !== newest + 1) assert.deepEqual([lost?.from, lost?.to], [newest + 1, number - 1]);
      newest = number;
      count++;
    }, 1000);
    subscriber.release();
    if (taken === 0) await subscriber.wait(100);
  }
  const lost = losses.reduce((sum, { messages }) => sum + messages, 0);
  assert.equal(newest, last);
  assert.equal(count + lost, last);
  const [lane] = file.lanes;
  assert.equal(lane.doubles[(lane.consumer(0) + consumerOffset.lost) / 2], lost);
  assert.equal(lane.doubles[(lane.consumer(0) + consumerOffset.messages) / 2], count);
  file.unmap();
});
