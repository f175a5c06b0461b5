/** A writer that wakes up after it was replaced, when its successor is segments ahead. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openPublisher, openSubscriber } from "gapless/queue";
import { openControl, readPosition } from "../../../src/queue/control.ts";
import { startAppender } from "../../support/queue-processes.ts";
import { makeDirectory, payloadOf } from "../../support/queue-records.ts";

for (const step of ["queue.appended 200", "queue.ended 3", "queue.begun 3", "queue.rolled 3"]) {
  test(`a writer that wakes up at ${step} holds up no reader of its successor`, async (t) => {
    const directory = makeDirectory(t);
    const appender = startAppender(t, directory, `SIGSTOP ${step}`);
    await appender.until(() => appender.told.appended > 100);
    await pause(1300);
    await using publisher = openPublisher(directory, {
      takeOverAfterMs: 1000,
      segmentBytes: 4096,
      preallocate: false,
    });
    for (let count = 0; count < 500; count++) {
      publisher.append(publisher.epoch, payloadOf(publisher.lastSequence + 1));
    }
    appender.child.kill("SIGCONT");
    await appender.ended();
    assert.equal(appender.failed, "FENCED");
    await using subscriber = openSubscriber(directory, "reader");
    const deadline = performance.now() + 3000;
    while (subscriber.position <= publisher.lastSequence) {
      assert.ok(performance.now() < deadline, `it stays at ${subscriber.position}`);
      if (subscriber.poll(() => undefined, 256) === 0) await subscriber.wait(50);
    }
    publisher.append(publisher.epoch, payloadOf(1));
    const control = openControl(directory, "read");
    t.after(() => control.mapping.unmap());
    assert.equal(readPosition(control)?.sequence, publisher.lastSequence);
  });
}
