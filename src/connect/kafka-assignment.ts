/**
 * Who of a group gets which partition.
 *
 * Kafka lets one member of a group decide. Its own strategies deal partitions out; a Gapless
 * member wants one of its own, and whoever has it keeps it, so that a second member waits as a
 * standby and a start takes nothing away from anybody. What a member wants goes with its request
 * to join, as the user data of the protocol named `gapless`:
 *
 *   0                  4                   8
 *   | partition i32    | held since i32    |     big-endian, as all of Kafka
 *
 * `held since` is the generation of the group in which it was given the partition, -1 where it has
 * not got it.
 */

/** Members with another protocol are refused by the broker. */
export const protocolName = "gapless";
export const heldNever = -1;

const wishBytes = 8;

export interface Wish {
  readonly partition: number;
  readonly heldSince: number;
}

/** What is known of a member that asks to join. */
export interface GroupMember {
  readonly memberId: string;
  readonly topics?: readonly string[];
  readonly metadata?: Buffer | string;
}

export interface MemberAssignment {
  memberId: string;
  assignments: Map<string, { topic: string; partitions: number[] }>;
}

export function encodeWish(wish: Wish): Buffer {
  const bytes = Buffer.alloc(wishBytes);
  bytes.writeInt32BE(wish.partition, 0);
  bytes.writeInt32BE(wish.heldSince, 4);
  return bytes;
}

/**
 * One member for each partition that anybody wants: who held it last, else the first by name.
 * The generation decides between two that both hold it: one of them was away, and knows nothing
 * of the other yet.
 */
export function assignPartitions(members: Iterable<GroupMember>): MemberAssignment[] {
  const assignments: MemberAssignment[] = [];
  const holders = new Map<string, { heldSince: number; assignment: MemberAssignment }>();
  const sorted = [...members].sort((one, other) => (one.memberId < other.memberId ? -1 : 1));
  for (const { memberId, topics = [], metadata } of sorted) {
    const assignment: MemberAssignment = { memberId, assignments: new Map() };
    assignments.push(assignment);
    const wish = decodeWish(metadata);
    if (wish === undefined) continue;
    for (const topic of topics) {
      const key = `${wish.partition}/${topic}`;
      const holder = holders.get(key);
      if (holder !== undefined && holder.heldSince >= wish.heldSince) continue;
      holder?.assignment.assignments.delete(topic);
      assignment.assignments.set(topic, { topic, partitions: [wish.partition] });
      holders.set(key, { heldSince: wish.heldSince, assignment });
    }
  }
  return assignments;
}

/** undefined where it is none: that member gets nothing. */
function decodeWish(metadata: Buffer | string | undefined): Wish | undefined {
  if (!Buffer.isBuffer(metadata) || metadata.length !== wishBytes) return undefined;
  return { partition: metadata.readInt32BE(0), heldSince: metadata.readInt32BE(4) };
}
