/** What one end does between any two atomic operations of the other, which falls asleep. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Publisher } from "gapless/bus";
import { sleepWord, tailWord } from "../../../src/bus/layout.ts";
import { forEachStop, observe } from "../../support/bus-atomics.ts";
import { kinds, publish, sizeMax, Stage, take } from "../../support/bus-stage.ts";

/** Enough to fall asleep at all, on a machine that is busy. */
const napMs = 20;

/** What may come while a consumer sleeps. */
const news: [what: string, tell: (publisher: Publisher) => void][] = [
  ["a message", (publisher) => publish(publisher, 1)],
  ["the end", (publisher) => publisher.finish()],
];

for (const [kind, settings] of kinds) {
  for (const [what, tell] of news) {
    test(`${kind}: ${what} that comes while a consumer falls asleep is not slept through`, (t) => {
      const stage = new Stage(t, settings);
      let naps = 0;
      const stops = forEachStop((stopAt) => {
        stage.reset();
        const publisher = stage.publisher();
        const subscriber = stage.subscriber();
        const tellNow = stopAt(() => tell(publisher));
        let wakes: number | undefined;
        let asleepOn: number | undefined;
        let tail: number | undefined;
        let finished: number | undefined;
        observe(
          () => subscriber.waitBlocking(napMs),
          (operation) => {
            const { name, index, result } = operation;
            if (result !== undefined && index === sleepWord.consumersWakes) wakes = result;
            if (name === "store" && index === sleepWord.consumersAsleep) asleepOn ??= wakes;
            // The look after the announcement is the last one before the sleep.
            if (asleepOn !== undefined && index === tailWord.tail) tail ??= result;
            if (asleepOn !== undefined && index === stage.finishedWord) finished ??= result;
            tellNow(operation);
          },
        );
        if (tail !== 0 || finished !== 0) return;
        naps++;
        const hasNews = subscriber.ended || subscriber.lagBytes > 0;
        if (hasNews) assert.notEqual(stage.word(sleepWord.consumersWakes), asleepOn);
      });
      assert.ok(naps > 3);
      assert.ok(stops > 6);
    });

    for (const sleptBefore of [false, true]) {
      const before = sleptBefore ? "again " : "";
      test(`${kind}: ${what} wakes a consumer that falls asleep ${before}while it is told`, (t) => {
        const stage = new Stage(t, settings);
        let naps = 0;
        const stops = forEachStop((stopAt) => {
          stage.reset();
          const publisher = stage.publisher();
          const subscriber = stage.subscriber();
          if (sleptBefore) subscriber.waitBlocking(napMs);
          let asleepOn: number | undefined;
          const fallAsleep = stopAt(() => {
            take(subscriber);
            asleepOn = stage.word(sleepWord.consumersWakes);
            subscriber.waitBlocking(napMs);
            const hasSlept =
              stage.word(sleepWord.consumersAsleep) === 1 && subscriber.lagBytes === 0;
            if (subscriber.ended || !hasSlept) asleepOn = undefined;
          });
          observe(() => tell(publisher), fallAsleep);
          if (asleepOn === undefined) return;
          naps++;
          // Where it had seen that news before it slept, the next is what has to wake it.
          if (subscriber.lagBytes === 0 && !subscriber.ended) publish(publisher, 1);
          assert.notEqual(stage.word(sleepWord.consumersWakes), asleepOn);
        });
        assert.ok(stops > 3 && naps > 0);
      });
    }
  }

  test(`${kind}: room that is made while the producer falls asleep for want of it is not slept through`, (t) => {
    const stage = new Stage(t, settings);
    const stops = forEachStop((stopAt) => {
      stage.reset();
      const publisher = stage.publisher();
      const subscriber = stage.subscriber();
      publish(publisher);
      const makeRoom = stopAt(() => {
        take(subscriber);
        subscriber.release();
      });
      let wakes: number | undefined;
      const hasRoom = observe(
        () => publisher.waitForRoomBlocking(sizeMax, 0),
        (operation) => {
          const { index, result } = operation;
          if (index === sleepWord.producersWakes) wakes = result;
          makeRoom(operation);
        },
      );
      const isWoken = stage.word(sleepWord.producersWakes) !== wakes;
      assert.ok(hasRoom || isWoken || subscriber.lagBytes > 0);
    });
    assert.ok(stops > 10);
  });

  test(`${kind}: a consumer that makes room wakes a producer that falls asleep while it does`, (t) => {
    const stage = new Stage(t, settings);
    const stops = forEachStop((stopAt) => {
      stage.reset();
      const publisher = stage.publisher();
      const subscriber = stage.subscriber();
      publish(publisher);
      take(subscriber);
      let asleepOn: number | undefined;
      const fallAsleep = stopAt(() => {
        const wakes = stage.word(sleepWord.producersWakes);
        if (publisher.waitForRoomBlocking(sizeMax, 0)) return;
        asleepOn = wakes;
      });
      observe(() => subscriber.release(), fallAsleep);
      if (asleepOn !== undefined) assert.notEqual(stage.word(sleepWord.producersWakes), asleepOn);
    });
    assert.ok(stops > 3);
  });

  test(`${kind}: a stream has ended for a consumer only when it has taken its last message`, (t) => {
    const stage = new Stage(t, settings);
    const stops = forEachStop((stopAt) => {
      stage.reset();
      const publisher = stage.publisher();
      const subscriber = stage.subscriber();
      const tell = stopAt(() => {
        publish(publisher, 1);
        publisher.finish();
      });
      assert.equal(
        observe(() => subscriber.ended, tell),
        false,
      );
    });
    assert.ok(stops > 1);
  });
}
