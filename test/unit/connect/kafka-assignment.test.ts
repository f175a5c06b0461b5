import assert from "node:assert/strict";
import test from "node:test";
import {
  assignPartitions,
  encodeWish,
  heldNever,
  type GroupMember,
} from "../../../src/connect/kafka-assignment.ts";

function member(memberId: string, partition: number, heldSince: number, topic = "t"): GroupMember {
  return { memberId, topics: [topic], metadata: encodeWish({ partition, heldSince }) };
}

function deal(...members: GroupMember[]): Record<string, string[]> {
  return Object.fromEntries(
    assignPartitions(members).map(({ memberId, assignments }) => [
      memberId,
      [...assignments.values()].flatMap(({ topic, partitions }) =>
        partitions.map((partition) => `${topic}/${partition}`),
      ),
    ]),
  );
}

test("each member gets the partition that it wants, and no other", () => {
  const members = [member("a", 1, heldNever), member("b", 0, heldNever), member("c", 1, 4, "u")];
  assert.deepEqual(deal(...members), { a: ["t/1"], b: ["t/0"], c: ["u/1"] });
});

test("who holds a partition keeps it, whoever joins", () => {
  const holder = member("m", 0, 3);
  assert.deepEqual(deal(member("a", 0, heldNever), holder), { a: [], m: ["t/0"] });
  assert.deepEqual(deal(holder, member("z", 0, heldNever)), { m: ["t/0"], z: [] });
});

test("of two that both hold it, the later one does", () => {
  assert.deepEqual(deal(member("a", 0, 3), member("b", 0, 5)), { a: [], b: ["t/0"] });
  assert.deepEqual(deal(member("a", 0, 5), member("b", 0, 3)), { a: ["t/0"], b: [] });
});

test("of some that are new, one gets it, the same on every machine", () => {
  const members = ["c", "a", "b"].map((name) => member(name, 0, heldNever));
  const expected = { a: ["t/0"], b: [], c: [] };
  assert.deepEqual(deal(...members), expected);
  assert.deepEqual(deal(...members.toReversed()), expected);
});

test("a member that says nothing of what it wants gets nothing", () => {
  const silent: GroupMember = { memberId: "a", topics: ["t"] };
  const strange: GroupMember = { memberId: "b", topics: ["t"], metadata: Buffer.from([1, 2, 3]) };
  assert.deepEqual(deal(silent, strange, member("c", 0, heldNever)), { a: [], b: [], c: ["t/0"] });
});
