/** What an end leaves behind that is killed between two of its atomic operations. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Bus, Publisher } from "gapless/bus";
import { headerWord } from "../../../src/bus/layout.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { forEachDeath, forEachStop, observe } from "../../support/bus-atomics.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
} from "../../support/bus-channel.ts";
import { claim, kinds, publish, readCopy, Stage, survives, take } from "../../support/bus-stage.ts";

const lives: [what: string, live: (publisher: Publisher) => void][] = [
  ["publishing one by one", (publisher) => publish(publisher, 1)],
  ["publishing three at once", (publisher) => publish(publisher, 3)],
  ["publishing until the ring is full", (publisher) => publish(publisher)],
  [
    "taking claims back",
    (publisher) => {
      claim(publisher, 2);
      publisher.abort();
      publish(publisher, 1);
    },
  ],
  ["saying that it is over", (publisher) => publisher.finish()],
  ["leaving", (publisher) => publisher.close()],
];

for (const [kind, settings] of kinds) {
  for (const [what, live] of lives) {
    test(`${kind}: G3: a producer killed anywhere while ${what} goes on after its last message`, (t) => {
      const stage = new Stage(t, settings);
      let deaths = 0;
      // The number of messages before decides where in the ring the records lie.
      for (let messages = 0; messages < 60; messages++) {
        deaths += forEachDeath((die) => {
          stage.reset();
          const subscriber = stage.subscriber();
          const publisher = stage.publisher();
          const numbers: number[] = [];
          for (let count = 0; count < messages; count++) {
            publish(publisher, 1);
            if (count % 20 > 0) continue;
            numbers.push(...take(subscriber));
            subscriber.release();
          }
          survives(() => observe(() => live(publisher), die));
          // And its successor just as well.
          survives(() => observe(() => stage.publisher(), die));
          const successor = stage.publisher();
          numbers.push(...take(subscriber));
          const newest = numbers.at(-1);
          const last = successor.last();
          if (!stage.isShared) assert.equal(successor.sequence, newest ?? 0);
          // Of several producers, one whose messages were all released has none to show.
          if (last === undefined) assert.ok(newest === undefined || stage.isShared);
          else assert.equal(readCopy(last), newest);
          subscriber.release();
          publish(successor, 2);
          numbers.push(...take(subscriber));
          assert.equal(numbers.at(-1), successor.sequence);
          stage.assertAllAccountedFor(numbers, successor.sequence);
        });
      }
      assert.ok(deaths > 60);
    });
  }

  test("G3: a consumer killed anywhere while it takes and releases gets all that is not released", (t) => {
    t.diagnostic(kind);
    const stage = new Stage(t, settings);
    for (let messages = 1; messages < 40; messages++) {
      forEachDeath((die) => {
        stage.reset();
        const publisher = stage.publisher();
        const subscriber = stage.subscriber();
        publish(publisher, messages);
        let taken: number[] = [];
        const lives = survives(() =>
          observe(() => {
            taken = take(subscriber);
            subscriber.release();
          }, die),
        );
        survives(() => observe(() => stage.subscriber(), die));
        const successor = stage.subscriber();
        assert.equal(successor.hadFailed, false);
        publish(publisher, 1);
        const [first = 0] = take(successor);
        assert.ok(!lives ? first <= messages + 1 : first === messages + 1);
        assert.ok(first === 1 || (first === messages + 1 && taken.at(-1) === messages));
      });
    }
  });

  for (const end of ["publisher", "subscriber"] as const) {
    const open = (bus: Bus): unknown => bus[end](channelName);

    test(`${kind}: of two who open the same ${end} at once, exactly one gets it`, (t) => {
      const stage = new Stage(t, settings);
      const directory = makeDirectory(t);
      const file = openFile(directory, settings);
      const [lane] = file.lanes;
      const service = end === "publisher" ? "engine" : "ledger";
      const stops = forEachStop((stopAt) => {
        stage.reset();
        lane.words.fill(0, headerWord.end);
        declareDead(lane, end === "publisher" ? lane.producer(0) : lane.consumer(0));
        using left = openAs(directory, service, settings);
        using right = openAs(directory, service, settings);
        let winners = 0;
        const tryToOpen = (bus: Bus): void => {
          try {
            open(bus);
            winners++;
          } catch (error) {
            assert.ok(isGaplessError(error, "ALREADY_OPEN"), String(error));
          }
        };
        observe(
          () => tryToOpen(left),
          stopAt(() => tryToOpen(right)),
        );
        assert.equal(winners, 1);
      });
      assert.ok(stops > 8);
      file.unmap();
    });
  }
}
