/** What tells a channel from one that was made anew, with sequences that begin again. */
import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import zlib from "node:zlib";
import { isGaplessError } from "../../../src/errors.ts";
import { headerWord, lineBytes } from "../../../src/bus/layout.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  ringPath,
} from "../../support/bus-channel.ts";

function identitySeenBy(directory: string, service: string): number {
  using bus = openAs(directory, service);
  return bus.identity(channelName);
}

test("a channel has one identity for all its ends, as long as it lasts", (t) => {
  const directory = makeDirectory(t);
  const identity = identitySeenBy(directory, "engine");
  assert.ok(Number.isInteger(identity) && identity >= 0 && identity < 2 ** 32);
  assert.equal(identitySeenBy(directory, "ledger"), identity);
  assert.equal(identitySeenBy(directory, "engine"), identity);
});

test("a channel that was made anew has another identity, also where its inode is the same", (t) => {
  const [directory, other] = [makeDirectory(t), makeDirectory(t)];
  const identities = new Set([identitySeenBy(directory, "engine")]);
  for (let times = 0; times < 20; times++) {
    identities.add(identitySeenBy(other, "engine"));
    const { ino } = fs.statSync(ringPath(directory));
    fs.writeFileSync(ringPath(directory), fs.readFileSync(ringPath(other)));
    assert.equal(fs.statSync(ringPath(directory)).ino, ino);
    identities.add(identitySeenBy(directory, "engine"));
    fs.rmSync(ringPath(other));
  }
  assert.equal(identities.size, 21);
});

test("lanes that disagree about their identity are no channel", (t) => {
  const directory = makeDirectory(t);
  const settings = { keys: { priorities: 2 } } as const;
  const file = openFile(directory, settings);
  const [, upper] = file.lanes;
  assert.ok(upper);
  assert.equal((upper.words[headerWord.identity] ?? 0) >>> 0, file.identity);
  upper.words[headerWord.identity] = ~file.identity;
  const checked = upper.bytes.subarray((headerWord.checksum + 1) * 4, lineBytes);
  upper.words[headerWord.checksum] = zlib.crc32(checked);
  file.unmap();
  assert.throws(
    () => openFile(directory, settings),
    (error) =>
      isGaplessError(error, "STORAGE_CORRUPT") &&
      error.message.includes("the header of lane 1 contradicts itself"),
  );
});
