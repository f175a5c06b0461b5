/**
 * What one end does between any two atomic operations of the other, and what it leaves behind when
 * it is killed there.
 */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { BACK_PRESSURED, type Bus, type Publisher, type Subscriber } from "gapless/bus";
import type { ChannelFile } from "../../../src/bus/channel-file.ts";
import {
  consumerOffset,
  consumerWord,
  evicted,
  ownershipWord,
  producerWord,
  sleepWord,
} from "../../../src/bus/layout.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { forEachDeath, forEachStop, Killed, observe } from "../../support/bus-atomics.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  readNumbered,
  sizeOf,
  writeNumbered,
  type Settings,
} from "../../support/bus-channel.ts";

const sizeMax = 100;
const settings: Settings = { messageSizeMax: sizeMax, deadConsumer: "evict" };
const producerOwner = ownershipWord.producer;
const consumerOwner = consumerWord(0) + consumerOffset.owner;
const consumerState = consumerWord(0) + consumerOffset.state;

/** Both ends of one channel, whose memory can be set back to what it was. */
class Stage {
  readonly file: ChannelFile;
  private readonly pristine: Uint8Array;
  private readonly directory: string;
  private readonly engine: Bus;
  private readonly ledger: Bus;

  constructor(context: TestContext) {
    this.directory = makeDirectory(context);
    this.file = openFile(this.directory, settings);
    this.pristine = this.file.bytes.slice();
    this.engine = openAs(this.directory, "engine", settings);
    this.ledger = openAs(this.directory, "ledger", settings);
  }

  reset(): void {
    this.file.bytes.set(this.pristine);
  }

  publisher(): Publisher {
    declareDead(this.file, producerOwner);
    return this.engine.publisher(channelName);
  }

  subscriber(): Subscriber {
    declareDead(this.file, consumerOwner);
    return this.ledger.subscriber(channelName);
  }

  word(index: number): number {
    return Atomics.load(this.file.words, index);
  }
}

/** Claims messages, numbered by their sequence, until there are `count` or there is no room. */
function claim(publisher: Publisher, count = Infinity): void {
  for (let claimed = 0; claimed < count; claimed++) {
    const number = publisher.sequence + 1;
    const length = sizeOf(number, sizeMax);
    const offset = publisher.claim(length);
    if (offset === BACK_PRESSURED) return;
    writeNumbered(publisher.memory, offset, length, number);
  }
}

function publish(publisher: Publisher, count = Infinity): void {
  claim(publisher, count);
  publisher.commit();
}

/** Takes all there is; each has to be whole and to follow the one before it. */
function take(subscriber: Subscriber): number[] {
  const numbers: number[] = [];
  while (
    subscriber.poll((memory, offset, length) => {
      const number = readNumbered(memory, offset, length, sizeMax);
      assert.equal(number, (numbers.at(-1) ?? number - 1) + 1);
      numbers.push(number);
    }, 1000) > 0
  );
  return numbers;
}

/** What may come while a consumer sleeps. */
const news: [what: string, tell: (publisher: Publisher) => void][] = [
  ["a message", (publisher) => publish(publisher, 1)],
  ["the end", (publisher) => publisher.finish()],
];

for (const [what, tell] of news) {
  test(`${what} that comes while a consumer falls asleep is not slept through`, (t) => {
    const stage = new Stage(t);
    const stops = forEachStop((stopAt) => {
      stage.reset();
      const publisher = stage.publisher();
      const subscriber = stage.subscriber();
      const tellNow = stopAt(() => tell(publisher));
      const seen = new Map<number, number>();
      observe(
        () => subscriber.waitBlocking(0),
        (operation) => {
          const { index, result } = operation;
          if (result !== undefined) seen.set(index, result);
          tellNow(operation);
        },
      );
      const fellAsleep = seen.get(producerWord.tail) === 0 && !seen.get(ownershipWord.finished);
      const isWoken = stage.word(sleepWord.consumersWakes) !== seen.get(sleepWord.consumersWakes);
      if (fellAsleep && (subscriber.ended || subscriber.lagBytes > 0)) assert.ok(isWoken);
    });
    assert.ok(stops > 6);
  });

  for (const sleptBefore of [false, true]) {
    const before = sleptBefore ? "again " : "";
    test(`${what} wakes a consumer that falls asleep ${before}while it is told`, (t) => {
      const stage = new Stage(t);
      const stops = forEachStop((stopAt) => {
        stage.reset();
        const publisher = stage.publisher();
        const subscriber = stage.subscriber();
        if (sleptBefore) subscriber.waitBlocking(0);
        let asleepOn: number | undefined;
        const fallAsleep = stopAt(() => {
          take(subscriber);
          asleepOn = stage.word(sleepWord.consumersWakes);
          if (subscriber.ended) asleepOn = undefined;
          else subscriber.waitBlocking(0);
        });
        observe(() => tell(publisher), fallAsleep);
        if (asleepOn === undefined) return;
        // Where it had seen that news before it slept, the next is what has to wake it.
        if (subscriber.lagBytes === 0 && !subscriber.ended) publish(publisher, 1);
        assert.notEqual(stage.word(sleepWord.consumersWakes), asleepOn);
      });
      assert.ok(stops > 3);
    });
  }
}

test("room that is made while the producer falls asleep for want of it is not slept through", (t) => {
  const stage = new Stage(t);
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
    let flagStores = 0;
    const hasRoom = observe(
      () => publisher.waitForRoomBlocking(sizeMax, 0),
      (operation) => {
        const { index, result } = operation;
        if (index === sleepWord.producerWakes) wakes = result;
        if (index === sleepWord.producerAsleep && result === undefined) flagStores++;
        // The second store clears the flag, after it has given up: it would sleep no more.
        if (flagStores < 2) makeRoom(operation);
      },
    );
    const isWoken = stage.word(sleepWord.producerWakes) !== wakes;
    assert.ok(hasRoom || isWoken || subscriber.lagBytes > 0);
  });
  assert.ok(stops > 10);
});

test("a consumer that makes room wakes a producer that falls asleep while it does", (t) => {
  const stage = new Stage(t);
  const stops = forEachStop((stopAt) => {
    stage.reset();
    const publisher = stage.publisher();
    const subscriber = stage.subscriber();
    publish(publisher);
    take(subscriber);
    let asleepOn: number | undefined;
    const fallAsleep = stopAt(() => {
      const wakes = stage.word(sleepWord.producerWakes);
      if (publisher.waitForRoomBlocking(sizeMax, 0)) return;
      // It would sleep on; that it gave up at once has cleared the flag.
      stage.file.words[sleepWord.producerAsleep] = 1;
      asleepOn = wakes;
    });
    observe(() => subscriber.release(), fallAsleep);
    if (asleepOn !== undefined) assert.notEqual(stage.word(sleepWord.producerWakes), asleepOn);
  });
  assert.ok(stops > 3);
});

test("a stream has ended for a consumer only when it has taken its last message", (t) => {
  const stage = new Stage(t);
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

function evict(stage: Stage): void {
  stage.file.words[consumerState] = stage.word(consumerState) | evicted;
}

/** Whatever the consumer has, it has whole and in order, while the producer fills the ring. */
function checkJoined(publisher: Publisher, subscriber: Subscriber): void {
  claim(publisher);
  const first = take(subscriber);
  subscriber.release();
  publish(publisher);
  const second = take(subscriber);
  subscriber.release();
  publish(publisher);
  const all = [...first, ...second, ...take(subscriber)];
  assert.deepEqual(
    all,
    all.map((_, index) => (all[0] ?? 0) + index),
  );
  assert.equal(all.at(-1), publisher.sequence);
}

for (const [before, actBefore] of deeds) {
  for (const [during, actDuring] of deeds) {
    test(`an evicted consumer returns to whole messages: the producer ${before}, then ${during}`, (t) => {
      const stage = new Stage(t);
      const stops = forEachStop((stopAt) => {
        stage.reset();
        const publisher = stage.publisher();
        evict(stage);
        actBefore(publisher);
        const subscriber = observe(
          () => stage.subscriber(),
          stopAt(() => actDuring(publisher)),
        );
        assert.ok(subscriber.wasEvicted);
        checkJoined(publisher, subscriber);
      });
      assert.ok(stops > 20);

      forEachStop((stopAt) => {
        stage.reset();
        const publisher = stage.publisher();
        evict(stage);
        actBefore(publisher);
        const returned: Subscriber[] = [];
        observe(
          () => actDuring(publisher),
          stopAt(() => returned.push(stage.subscriber())),
        );
        for (const subscriber of returned) checkJoined(publisher, subscriber);
      });
    });
  }
}

test("a consumer that is killed while it returns from an eviction returns once more", (t) => {
  const stage = new Stage(t);
  for (const [, act] of deeds) {
    let deaths = 0;
    for (let stop = 0; stop <= deaths; stop++) {
      deaths = forEachDeath((die) => {
        stage.reset();
        const publisher = stage.publisher();
        evict(stage);
        publish(publisher, 30);
        let left = stop;
        const killed = survives(() =>
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
        if (killed && claimed > 0) checkJoined(publisher, subscriber);
      });
    }
    assert.ok(deaths > 20);
  }
});

test("a consumer that comes back while the producer evicts it is evicted, or loses nothing", (t) => {
  const stage = new Stage(t);
  const check = (publisher: Publisher, subscriber: Subscriber): void => {
    claim(publisher);
    const numbers = take(subscriber);
    if (!subscriber.wasEvicted) assert.equal(numbers[0], 1);
    assert.equal(stage.word(consumerState) & evicted, 0);
    publisher.abort();
    subscriber.release();
    checkJoined(publisher, subscriber);
  };
  const evictedOnes = new Set<boolean>();
  const begin = (): Publisher => {
    stage.reset();
    const publisher = stage.publisher();
    stage.subscriber();
    publish(publisher);
    declareDead(stage.file, consumerOwner);
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
      evictedOnes.add(subscriber.wasEvicted);
      check(publisher, subscriber);
    }
  });
  forEachStop((stopAt) => {
    const publisher = begin();
    const subscriber = observe(
      () => stage.subscriber(),
      stopAt(() => publisher.waitForRoomBlocking(sizeMax, 1)),
    );
    evictedOnes.add(subscriber.wasEvicted);
    check(publisher, subscriber);
  });
  assert.equal(evictedOnes.size, 2);
});

test("a consumer that comes just before its forebear is evicted is evicted, or is not", (t) => {
  const stage = new Stage(t);
  const stops = forEachStop((stopAt) => {
    stage.reset();
    const publisher = stage.publisher();
    stage.subscriber();
    publish(publisher);
    // What a producer does last that found the forebear dead, however long ago.
    const judged = stage.word(consumerState);
    let isEvicted = false;
    const conclude = stopAt(() => {
      const found = Atomics.compareExchange(
        stage.file.words,
        consumerState,
        judged,
        judged | evicted,
      );
      isEvicted = found === judged;
    });
    const subscriber = observe(() => stage.subscriber(), conclude);
    assert.equal(subscriber.wasEvicted, isEvicted);
    assert.equal(stage.word(consumerState) & evicted, 0);
    checkJoined(publisher, subscriber);
  });
  assert.ok(stops > 10);
});

/** Whether `act` was killed on the way. */
function survives(act: () => unknown): boolean {
  try {
    act();
    return false;
  } catch (error) {
    if (error instanceof Killed) return true;
    throw error;
  }
}

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

for (const [what, live] of lives) {
  test(`G3: a producer killed anywhere while ${what} goes on after its last message`, (t) => {
    const stage = new Stage(t);
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
        const committed = successor.sequence;
        const last = successor.last();
        assert.equal(last === undefined, committed === 0);
        if (last !== undefined) {
          assert.equal(new DataView(last.buffer).getFloat64(0, true), committed);
          assert.equal(last.length, sizeOf(committed, sizeMax));
        }
        publish(successor, 2);
        numbers.push(...take(subscriber));
        assert.equal(numbers.at(-1), successor.sequence);
        assert.ok(numbers.every((number, index) => number === index + 1));
      });
    }
    assert.ok(deaths > 60);
  });
}

test("G3: a consumer killed anywhere while it takes and releases gets all that is not released", (t) => {
  const stage = new Stage(t);
  for (let messages = 1; messages < 40; messages++) {
    forEachDeath((die) => {
      stage.reset();
      const publisher = stage.publisher();
      const subscriber = stage.subscriber();
      publish(publisher, messages);
      let taken: number[] = [];
      const killed = survives(() =>
        observe(() => {
          taken = take(subscriber);
          subscriber.release();
        }, die),
      );
      survives(() => observe(() => stage.subscriber(), die));
      const successor = stage.subscriber();
      assert.equal(successor.wasEvicted, false);
      publish(publisher, 1);
      const [first = 0] = take(successor);
      assert.ok(killed ? first <= messages + 1 : first === messages + 1);
      assert.ok(first === 1 || (first === messages + 1 && taken.at(-1) === messages));
    });
  }
});

for (const end of ["publisher", "subscriber"] as const) {
  const owner = end === "publisher" ? producerOwner : consumerOwner;
  const open = (bus: Bus): unknown => bus[end](channelName);

  test(`of two who open the same ${end} at once, exactly one gets it`, (t) => {
    const stage = new Stage(t);
    const directory = makeDirectory(t);
    const file = openFile(directory, settings);
    const service = end === "publisher" ? "engine" : "ledger";
    const stops = forEachStop((stopAt) => {
      stage.reset();
      file.words.fill(0, 64, 4096);
      declareDead(file, owner);
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
