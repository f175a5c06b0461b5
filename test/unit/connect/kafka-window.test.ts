import assert from "node:assert/strict";
import test from "node:test";
import { DeliveryWindow } from "../../../src/connect/kafka-window.ts";
import { isBatch, type Batch, type Message } from "../../../src/message.ts";
import { seededRandom } from "../../../src/random.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

function batchOf(...ids: bigint[]): Batch {
  const messages = ids.map((id): Message => ({
    id,
    prevId: id - 1n,
    timestampNs: 0n,
    bytes: new Uint8Array(),
  }));
  assert.ok(isBatch(messages));
  return messages;
}

test("what is acknowledged is committed as the offset behind it", () => {
  const window = new DeliveryWindow();
  window.push(batchOf(10n, 11n, 15n), [3n, 4n, 9n]);
  window.push(batchOf(16n), [10n]);
  assert.equal(window.acknowledge(9n), undefined);
  assert.equal(window.acknowledge(11n), 5n);
  assert.equal(window.acknowledge(11n), undefined);
  // Nothing has this id: it was filled from an archive.
  assert.equal(window.acknowledge(14n), undefined);
  assert.equal(window.acknowledge(20n), 11n);
  assert.equal(window.acknowledge(20n), undefined);
});

test("a duplicate of what is acknowledged goes with it", () => {
  const window = new DeliveryWindow();
  window.push(batchOf(10n, 11n, 10n, 11n, 12n), [0n, 1n, 2n, 3n, 4n]);
  assert.equal(window.acknowledge(11n), 4n);
  window.push(batchOf(11n), [5n]);
  // It came behind one that is not safe yet.
  assert.equal(window.acknowledge(11n), undefined);
  assert.equal(window.acknowledge(12n), 6n);
});

test("after a new start nothing of the old one is committed", () => {
  const window = new DeliveryWindow();
  window.push(batchOf(10n, 11n), [0n, 1n]);
  assert.equal(window.acknowledge(10n), 1n);
  window.clear();
  assert.equal(window.acknowledge(11n), undefined);
  window.push(batchOf(11n), [1n]);
  assert.equal(window.acknowledge(11n), 2n);
});

test("no offset is committed in front of which anything is unsafe", (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  for (let round = 0; round < 300; round++) {
    const window = new DeliveryWindow();
    const model: { id: bigint; offset: bigint }[] = [];
    let id = 0n;
    let offset = 0n;
    let committed = 0n;
    let safe = 0n;
    for (let step = 0; step < 40; step++) {
      if (random.below(2) === 0) {
        const ids: bigint[] = [];
        const offsets: bigint[] = [];
        for (let count = 1 + random.below(5); count > 0; count--) {
          id += BigInt(1 + random.below(3));
          const back = random.below(4) === 0 ? BigInt(random.below(5)) : 0n;
          ids.push(id > back ? id - back : id);
          offset += BigInt(1 + random.below(2));
          offsets.push(offset);
        }
        window.push(batchOf(...ids), offsets);
        ids.forEach((one, index) => model.push({ id: one, offset: offsets[index] ?? 0n }));
      } else {
        const throughId = safe + BigInt(random.below(6));
        safe = throughId;
        const answer = window.acknowledge(throughId);
        if (answer !== undefined) {
          assert.ok(answer > committed, `SEED=${seed}`);
          committed = answer;
        }
        // The first that is not safe is where a start would begin.
        const unsafe = model.find((one) => one.id > throughId && one.offset >= committed);
        const front = model.filter((one) => unsafe === undefined || one.offset < unsafe.offset);
        const last = front.at(-1);
        assert.equal(committed, last === undefined ? 0n : last.offset + 1n, `SEED=${seed}`);
      }
    }
  }
});
