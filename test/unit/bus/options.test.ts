/** What is passed to the doors of a bus is checked there, and a mistake says what was expected. */
import assert from "node:assert/strict";
import test from "node:test";
import { isGaplessError, openBus, type Bus, type SubscriberOptions } from "gapless/bus";
import { channelName, channelsOf, makeDirectory, openAs } from "../../support/bus-channel.ts";

/** As from JavaScript: nothing checks what is passed. */
const openUnchecked = openBus as unknown as (config?: unknown, options?: unknown) => Bus;

function isInvalid(text: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isGaplessError(error, "CONFIG_INVALID"), String(error));
    assert.ok(error.message.includes(text), error.message);
    return true;
  };
}

test("a bus needs a directory, channels and the name of its service", (t) => {
  const directory = makeDirectory(t);
  const channels = channelsOf();
  const wrong: [config: unknown, options: unknown, expected: string][] = [
    [undefined, { service: "engine" }, "openBus: expected the path of a file, or an object"],
    [{ channels }, { service: "engine" }, "directory: expected the path of a folder"],
    [{ directory: "", channels }, { service: "engine" }, "directory: expected the path"],
    [{ directory }, { service: "engine" }, "channels: expected a table of channels"],
    [{ directory, channels }, undefined, 'expected { service: "NAME" }'],
    [{ directory, channels }, {}, "service: expected the name of a service"],
    [{ directory, channels }, { service: "" }, "service: expected the name of a service"],
  ];
  for (const [config, options, expected] of wrong) {
    assert.throws(() => openUnchecked(config, options), isInvalid(expected));
  }
});

test("a service without channels opens a bus, and is told of the others when it asks for an end", (t) => {
  using bus = openAs(makeDirectory(t), "nobody");
  const known = "Configured are: trades (engine → ledger)";
  assert.throws(() => bus.publisher(channelName), isInvalid(known));
  assert.throws(() => bus.subscriber(channelName), isInvalid(known));
});

test("an option that an end does not know, or cannot use, is refused before anything is opened", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine");
  using ledger = openAs(directory, "ledger");
  const ofSubscriber: [options: unknown, expected: string][] = [
    [{ onLos: () => undefined }, "unknown onLos, expected topics, onLoss, onWithdrawn, wait"],
    [{ wait: "spin" }, 'wait: expected "park", "spin-then-park" or "busy-spin"'],
    [{ topics: "spot." }, "topics: expected a list of texts"],
    [{ topics: [5] }, "topics.0: expected a list of texts"],
    [{ onLoss: true }, "onLoss: expected a function"],
    [{ onWithdrawn: 1 }, "onWithdrawn: expected a function"],
    [{ spinMicros: "50" }, "spinMicros: expected a number of microseconds"],
    [{ spinMicros: -1 }, "spinMicros: expected a number of microseconds"],
  ];
  for (const [options, expected] of ofSubscriber) {
    assert.throws(
      () => ledger.subscriber(channelName, options as SubscriberOptions),
      isInvalid(expected),
    );
  }
  const ofPublisher: [options: object, expected: string][] = [
    [{ prioritty: 1 }, "unknown prioritty, expected priority"],
    [{ priority: "0" }, "priority: expected a number"],
    [{ priority: 1 }, "a priority from 0 to 0, not 1"],
  ];
  for (const [options, expected] of ofPublisher) {
    assert.throws(() => engine.publisher(channelName, options), isInvalid(expected));
  }
  engine.publisher(channelName);
  ledger.subscriber(channelName, { wait: "busy-spin", topics: ["spot."], spinMicros: 0 });
});

test("a channel without a backup has nobody to stand by", async (t) => {
  using engine = openAs(makeDirectory(t), "engine");
  const { signal } = new AbortController();
  await assert.rejects(
    engine.standby(channelName, signal),
    isInvalid("channels.trades: expected a backup_producer"),
  );
});

test("a bus that is closed opens no more ends", async (t) => {
  const directory = makeDirectory(t);
  const isClosed = (error: unknown): boolean => isGaplessError(error, "CLOSED");
  const engine = openAs(directory, "engine");
  engine.close();
  engine.close();
  const { signal } = new AbortController();
  assert.throws(() => engine.publisher(channelName), isClosed);
  assert.throws(() => engine.subscriber(channelName), isClosed);
  assert.throws(() => engine.identity(channelName), isClosed);
  await assert.rejects(engine.standby(channelName, signal), isClosed);
});
