/** Ends that are opened and closed over and over, in a bus that stays open. */
import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import v8 from "node:v8";
import vm from "node:vm";
import type { Bus } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { channelName, makeDirectory, openAs } from "../../support/bus-channel.ts";

v8.setFlagsFromString("--expose-gc");
const collectGarbage = vm.runInNewContext("gc") as () => void;

const kinds: [what: string, service: string, open: (bus: Bus) => Disposable & object][] = [
  ["publisher", "engine", (bus) => bus.publisher(channelName)],
  ["subscriber", "ledger", (bus) => bus.subscriber(channelName)],
];

for (const [what, service, open] of kinds) {
  test(`a ${what} that was closed by itself is held by nobody, and one that is open by its bus`, async (t) => {
    using bus = openAs(makeDirectory(t), service);
    const closed = Array.from({ length: 20 }, () => {
      using end = open(bus);
      return new WeakRef(end);
    });
    const kept = new WeakRef(open(bus));
    // What was made in this turn is kept through it.
    await nextTurn();
    collectGarbage();
    assert.equal(closed.filter((end) => end.deref() !== undefined).length, 0);
    assert.ok(kept.deref() !== undefined);
  });

  test(`closing the bus closes each ${what} that is open, and none twice`, (t) => {
    const directory = makeDirectory(t);
    const bus = openAs(directory, service);
    const first = open(bus);
    first[Symbol.dispose]();
    open(bus);
    using heir = openAs(directory, service);
    assert.throws(
      () => open(heir),
      (error) => isGaplessError(error, "ALREADY_OPEN"),
    );
    bus.close();
    open(heir);
    first[Symbol.dispose]();
    bus.close();
    // It is the heir's: whoever closed it before has not taken it away.
    using other = openAs(directory, service);
    assert.throws(
      () => open(other),
      (error) => isGaplessError(error, "ALREADY_OPEN"),
    );
  });
}
