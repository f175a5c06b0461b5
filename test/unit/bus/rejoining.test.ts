/**
 * A consumer that has failed and comes back, or that fails as it comes: what the producer does
 * between any two of its atomic operations, and the other way round.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { Publisher, Subscriber } from "gapless/bus";
import { failed } from "../../../src/bus/layout.ts";
import { forEachDeath, forEachStop, observe } from "../../support/bus-atomics.ts";
import { claim, kinds, publish, sizeMax, Stage, survives, take } from "../../support/bus-stage.ts";

/** What a producer may do before, during and after the return of a consumer that it has evicted. */
const deeds: [what: string, act: (publisher: Publisher) => void][] = [
  ["publishes one message", (publisher) => publish(publisher, 1)],
  ["fills the ring and has not committed", (publisher) => claim(publisher)],
  ["fills the ring", (publisher) => publish(publisher)],
  [
    "laps the ring",
    (publisher) => {
      for (let round = 0; round < 4; round++) publish(publisher, 25);
    },
  ],
];

/** Everybody gets whole messages while the producer fills the ring, and is told what is missing. */
function checkJoined(
  stage: Stage,
  publisher: Publisher,
  subscriber: Subscriber,
  taken: readonly number[] = [],
): void {
  const numbers = [...taken];
  claim(publisher);
  numbers.push(...take(subscriber));
  subscriber.release();
  publish(publisher);
  numbers.push(...take(subscriber));
  subscriber.release();
  publish(publisher);
  numbers.push(...take(subscriber));
  stage.assertAllAccountedFor(numbers, publisher.sequence);
}

for (const [kind, settings] of kinds) {
  for (const [before, actBefore] of deeds) {
    for (const [during, actDuring] of deeds) {
      test(`${kind}: an evicted consumer returns to whole messages: the producer ${before}, then ${during}`, (t) => {
        const stage = new Stage(t, settings);
        const stops = forEachStop((stopAt) => {
          stage.reset();
          const publisher = stage.publisher();
          stage.evict();
          actBefore(publisher);
          const subscriber = observe(
            () => stage.subscriber(),
            stopAt(() => actDuring(publisher)),
          );
          assert.ok(subscriber.hadFailed);
          checkJoined(stage, publisher, subscriber);
        });
        assert.ok(stops > 20);

        forEachStop((stopAt) => {
          stage.reset();
          const publisher = stage.publisher();
          stage.evict();
          actBefore(publisher);
          const returned: Subscriber[] = [];
          observe(
            () => actDuring(publisher),
            stopAt(() => returned.push(stage.subscriber())),
          );
          for (const subscriber of returned) checkJoined(stage, publisher, subscriber);
        });
      });
    }
  }

  test("a consumer that is killed while it returns from an eviction returns once more", (t) => {
    t.diagnostic(kind);
    const stage = new Stage(t, settings);
    for (const [, act] of deeds) {
      let deaths = 0;
      for (let stop = 0; stop <= deaths; stop++) {
        deaths = forEachDeath((die) => {
          stage.reset();
          const publisher = stage.publisher();
          stage.evict();
          publish(publisher, 30);
          let left = stop;
          const lives = survives(() =>
            observe(
              () => stage.subscriber(),
              (operation) => {
                if (left-- === 0) act(publisher);
                die(operation);
              },
            ),
          );
          const claimed = publisher.sequence;
          claim(publisher);
          const subscriber = stage.subscriber();
          if (!lives && claimed > 0) checkJoined(stage, publisher, subscriber);
        });
      }
      assert.ok(deaths > 20);
    }
  });

  test("a consumer that comes back while the producer evicts it is evicted, or loses nothing", (t) => {
    t.diagnostic(kind);
    const stage = new Stage(t, settings);
    const check = (publisher: Publisher, subscriber: Subscriber): void => {
      claim(publisher);
      const numbers = take(subscriber);
      if (!subscriber.hadFailed) assert.equal(numbers[0], 1);
      assert.equal(stage.word(stage.stateWord) & failed, 0);
      publisher.abort();
      subscriber.release();
      checkJoined(stage, publisher, subscriber, numbers);
    };
    const evictedOnes = new Set<boolean>();
    const begin = (): Publisher => {
      stage.reset();
      const publisher = stage.publisher();
      stage.subscriber();
      publish(publisher);
      stage.killSubscriber();
      return publisher;
    };
    forEachStop((stopAt) => {
      const publisher = begin();
      const returned: Subscriber[] = [];
      observe(
        () => publisher.waitForRoomBlocking(sizeMax, 1),
        stopAt(() => returned.push(stage.subscriber())),
      );
      for (const subscriber of returned) {
        evictedOnes.add(subscriber.hadFailed);
        check(publisher, subscriber);
      }
    });
    forEachStop((stopAt) => {
      const publisher = begin();
      const subscriber = observe(
        () => stage.subscriber(),
        stopAt(() => publisher.waitForRoomBlocking(sizeMax, 1)),
      );
      evictedOnes.add(subscriber.hadFailed);
      check(publisher, subscriber);
    });
    assert.equal(evictedOnes.size, 2);
  });

  test(`${kind}: a consumer that comes just before its forebear is evicted is evicted, or is not`, (t) => {
    const stage = new Stage(t, settings);
    const stops = forEachStop((stopAt) => {
      stage.reset();
      const publisher = stage.publisher();
      stage.subscriber();
      publish(publisher);
      // What a producer does last that found the forebear dead, however long ago.
      const judged = stage.word(stage.stateWord);
      let isEvicted = false;
      const conclude = stopAt(() => {
        const found = Atomics.compareExchange(
          stage.lane.words,
          stage.stateWord,
          judged,
          judged | failed,
        );
        isEvicted = found === judged;
      });
      const subscriber = observe(() => stage.subscriber(), conclude);
      assert.equal(subscriber.hadFailed, isEvicted);
      assert.equal(stage.word(stage.stateWord) & failed, 0);
      checkJoined(stage, publisher, subscriber);
    });
    assert.ok(stops > 10);
  });
}
