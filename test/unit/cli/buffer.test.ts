/** `gapless buffer` on files that nobody has open, as a person calls it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { openMsgBuffer, type StorageOptions } from "gapless/buffer";
import { packChunks } from "../../../src/buffer/chunk.ts";
import { openColdRows } from "../../../src/buffer/cold-rocksdb.ts";
import { packMessages, type Message } from "../../../src/message.ts";
import { gapless } from "../../support/bus-command.ts";
import { refusalOf } from "./buffer-refusal.ts";
import { coldIn, makeMessages, temporaryDirectory } from "../buffer/fixture.ts";

interface Written {
  readonly dbPath: string;
  readonly messages: readonly Message[];
}

/** A buffer that was closed, of 2,500 messages whose ids go up by two. */
async function write(
  context: TestContext,
  options: Partial<StorageOptions> = {},
): Promise<Written> {
  const dbPath = path.join(temporaryDirectory(context), "exchange");
  const messages = makeMessages(0n, 2500, 100, 2n);
  const storage = { dbPath, ...options };
  await using buffer = await openMsgBuffer({ component: "trades", storage });
  for (let at = 0; at < 2500; at += 500) await buffer.append(messages.slice(at, at + 500));
  return { dbPath, messages };
}

function documentOf(...args: string[]): Record<string, unknown> {
  const { status, stdout, stderr } = gapless("buffer", ...args, "--json");
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
}

test("stat and verify tell what there is, whatever it was opened with, and trim takes exactly that", async (context) => {
  const options = { cfName: "trades", useCompression: false, writeBufferSize: 8 * 1024 * 1024 };
  const { dbPath, messages } = await write(context, options);
  const family = ["--family", "trades"];
  const { diskBytes, ...seen } = documentOf("stat", dbPath, ...family);
  assert.ok(Number(diskBytes) > 0);
  assert.deepEqual(seen, {
    ...{ directory: path.join(dbPath, "trades"), family: "trades" },
    ...{ total: 2500, bytes: 330_000, minId: "2", maxId: "5000", logPosition: "0" },
    ...{ trimmed: 0, lastTrim: null, losses: [], unreadable: 0 },
  });

  const wanted = ["trim", dbPath, ...family, "--before", "1001"];
  const wouldTrim = { deleted: 500, left: 2000, minId: "1002", isWritten: false };
  assert.partialDeepStrictEqual(documentOf(...wanted), wouldTrim);
  const told = gapless("buffer", ...wanted);
  assert.match(told.stdout, /^would trim {2}500 messages, from id 2; left: 2,000, from id 1002/);
  assert.match(told.stdout, /Nothing was changed: --write does it\.\n$/);
  assert.partialDeepStrictEqual(documentOf("stat", dbPath, ...family), { total: 2500, minId: "2" });

  const trimmed = { deleted: 500, left: 2000, minId: "1002", isWritten: true };
  assert.partialDeepStrictEqual(documentOf(...wanted, "--write"), trimmed);
  // Once is enough.
  const { stdout } = gapless("buffer", ...wanted, "--write");
  assert.equal(stdout, "trimmed  0 messages; left: 2,000, from id 1002.\n");
  const show = (): string => gapless("buffer", "stat", dbPath, ...family).stdout;
  assert.match(show(), /^ {2}kept {5}id 1002 to 5000, 2,000 messages, 258 KB$/m);
  assert.match(show(), /^ {2}trimmed {2}before id 1001, 500 messages, \d+ m?s ago$/m);

  const kept = packMessages(messages.slice(500));
  assert.deepEqual(documentOf("verify", dbPath, ...family), {
    ...{ minId: "1002", maxId: "5000", messages: 2000, bytes: 264_000 },
    ...{ sha256: createHash("sha256").update(kept).digest("hex"), isComplete: true, damage: null },
  });

  gapless("buffer", "trim", dbPath, ...family, "--before", "1021", "--write");
  const twice = /^ {2}trimmed {2}before id 1021, 510 messages, the last 10 of them \d+ m?s ago$/m;
  assert.match(show(), twice);
  const { trimmed: all } = documentOf("stat", dbPath, ...family);
  assert.equal(all, 510);
});

test("what a trim may not do is refused, with --write and without", async (context) => {
  const { dbPath } = await write(context);
  const beyond = ["buffer", "trim", dbPath, "--before", "5002"];
  for (const args of [beyond, [...beyond, "--write"]]) {
    const { status, stderr } = gapless(...args);
    assert.deepEqual([status, /^INVALID_OPERATION: .*id=5000\.$/m.test(stderr)], [1, true], stderr);
  }
  {
    await using buffer = await openMsgBuffer({ component: "trades", storage: { dbPath } });
    const { status, stderr } = gapless("buffer", "trim", dbPath, "--before", "3", "--write");
    assert.equal(status, 1, stderr);
    const holder = `another process: pid=${process.pid}\\.`;
    assert.match(
      stderr,
      new RegExp(`^ALREADY_OPEN: .* is open already in ${holder} .*--peer\\.$`, "m"),
    );
    // From now on it follows a log, which alone may trim it.
    await buffer.append(makeMessages(5000n, 1), { logPosition: 7n });
  }
  const trim = ["buffer", "trim", dbPath, "--before", "5001", "--write"];
  const { status, stderr } = gapless(...trim);
  assert.deepEqual([status, /^INVALID_OPERATION: .*through 7/.test(stderr)], [1, true], stderr);
  assert.equal(
    gapless(...trim, "--force").stdout,
    "trimmed  2,500 messages, from id 2; left: 1, from id 5001.\n",
  );
});

test("get prints messages from an id on, as what they are asked for", async (context) => {
  const dbPath = temporaryDirectory(context);
  const texts = ['{"price":\n  9007199254740993}', "plain\ttext", "\u0000\u0001"];
  {
    await using buffer = await openMsgBuffer({ component: "trades", storage: { dbPath } });
    const timestampNs = 1_700_000_000_123_456_789n;
    await buffer.append(
      texts.map((text, index) => ({
        id: BigInt(index + 1) * 10n,
        prevId: BigInt(index) * 10n,
        timestampNs,
        bytes: Buffer.from(text),
      })),
    );
  }
  const get = (...args: string[]) => gapless("buffer", "get", dbPath, ...args);
  const all = get("1", "--count", "9");
  assert.match(all.stderr, /^There is no id=1: the next one is id=10\.\nThese are all: 3 messages/);
  const at = "2023-11-14T22:13:20.123456Z";
  assert.deepEqual(all.stdout.split("\n"), [
    `          10  behind 0             ${at}      29 B  {"price":\\n  9007199254740993}`,
    `          20  behind 10            ${at}      10 B  plain\\ttext`,
    `          30  behind 20            ${at}       2 B  0001`,
    "",
  ]);
  // Its number is none that JavaScript has.
  const json = get("10", "--decode", "json", "--json").stdout;
  assert.match(json, /^\{"id":"10","prevId":"0",.*,"json":\{"price": +9007199254740993\}\}\n$/);
  assert.match(get("20", "--decode", "hex").stdout, / {2}706c61696e0974657874\n$/);
  const notText = get("20", "--count", "2", "--decode", "text");
  assert.match(notText.stdout, /^ +20 .*plain\\ttext\n$/);
  assert.deepEqual(
    [notText.status, notText.stderr],
    [1, "INPUT_MALFORMED: id=30 is not text: --decode hex shows its bytes.\n"],
  );
  const early = get("31");
  assert.deepEqual(
    [early.status, /^DATA_NOT_YET_AVAILABLE: .*id=30/.test(early.stderr)],
    [1, true],
  );
});

test("verify tells the first damage, behind which message it is, and exits with 1", async (context) => {
  const verify = (dbPath: string) => gapless("buffer", "verify", dbPath, "--json");
  const messages = makeMessages(0n, 2000);

  const holed = temporaryDirectory(context);
  const rows = await openColdRows(coldIn(path.join(holed, "messages")));
  await rows.commit(packChunks(messages.slice(0, 1200)));
  await rows.commit(packChunks(messages.slice(1201)));
  await rows.close();
  const hole = verify(holed);
  assert.equal(hole.status, 1, hole.stderr);
  const report = JSON.parse(hole.stdout) as { damage: { behindId: string; code: string } };
  assert.partialDeepStrictEqual(report, {
    messages: 1200,
    isComplete: false,
    damage: { behindId: "1200", code: "STORAGE_CORRUPT" },
  });
  const text = gapless("buffer", "verify", holed);
  assert.match(text.stdout, /^damage {2}behind id 1200: .*is damaged: asked from\n +id=1201, /);
  assert.match(text.stdout, /^1,200 messages, 155 KB before it are as they should be/m);

  // All can be read, and they are not as many as were stored.
  const miscounted = temporaryDirectory(context);
  const others = await openColdRows(coldIn(path.join(miscounted, "messages")));
  for (const half of [messages.slice(0, 1000), messages.slice(1000)]) {
    await others.commit(packChunks(half));
  }
  await others.close();
  const count = verify(miscounted);
  assert.equal(count.status, 1, count.stderr);
  assert.match(count.stdout, /"isComplete": true,\s+"damage": \{\s+"behindId": "2000"/);
  assert.match(count.stdout, /has messages=2000/);

  const { dbPath } = await write(context);
  fs.writeFileSync(path.join(dbPath, "messages/rocksdb/CURRENT"), "garbage");
  const unopened = verify(dbPath);
  assert.deepEqual([unopened.status, unopened.stderr], [1, ""]);
  const { damage, ...nothing } = JSON.parse(unopened.stdout) as Record<string, unknown>;
  assert.partialDeepStrictEqual(damage, { behindId: null, code: "STORAGE_CORRUPT" });
  assert.deepEqual(nothing, {
    ...{ minId: null, maxId: null, messages: 0, bytes: 0 },
    ...{ sha256: createHash("sha256").digest("hex"), isComplete: false },
  });
});

test("where there is no buffer none is made, and it is said what is there", async (context) => {
  const { dbPath } = await write(context);
  const empty = temporaryDirectory(context);
  const cases: readonly [readonly string[], RegExp][] = [
    [
      ["stat", empty],
      /^DATA_NOT_YET_AVAILABLE: There is no buffer in .*\/messages\. Check the path: nothing under/,
    ],
    [
      ["verify", path.join(empty, "a/b")],
      new RegExp(`Check the path: of it, only ${empty} exists\\.$`),
    ],
    [["stat", import.meta.filename], /Check the path: .*buffer\.test\.ts is no directory\.$/],
    [["trim", empty, "--before", "1", "--write"], /^DATA_NOT_YET_AVAILABLE: /],
    [["serve", empty], /^DATA_NOT_YET_AVAILABLE: There is no buffer under .* Check the path: /],
    [["stat", dbPath, "--family", "orders"], /There are: --family messages\.$/],
    [["get", path.join(dbPath, "messages"), "1"], /It is one itself: give .* --family messages\./],
    [["stat"], /^CONFIG_INVALID: command line: path: is missing: expected a directory, or --peer/],
    [["stat", dbPath, "--peer", "unix:/x", "--flow", "y"], /^CONFIG_INVALID: .*found both$/],
    [["stat", "--peer", "unix:/x"], /^CONFIG_INVALID: command line: --flow: is missing/],
    [["stat", "--flow", "y"], /^CONFIG_INVALID: command line: --peer: is missing/],
    [["stat", dbPath, "--flow", "y"], /--flow: goes with --peer, and not with a path$/],
    [["verify", dbPath, "--tls"], /--tls: goes with --peer, and not with a path$/],
    [["get", dbPath, "1", "--tls-ca", "x"], /--tls-ca: goes with --peer, and not with a path$/],
    [["get", dbPath, "1", "--timeout", "9"], /--timeout: goes with --peer, and not with a path$/],
    [["stat", "--peer", "nowhere", "--flow", "y"], /^CONFIG_INVALID: address=nowhere/],
    [["get", dbPath], /^CONFIG_INVALID: command line: id: expected/],
    [["get", dbPath, "99999999999999999999"], /^CONFIG_INVALID: .*64 bits/],
    [["get", dbPath, "1", "--follow"], /^CONFIG_INVALID: .*--follow: goes with --peer: /],
    [["get", dbPath, "1", "--count", "0"], /^CONFIG_INVALID: .*--count: expected a whole number/],
    [["trim", dbPath, "--before", "-1"], /^CONFIG_INVALID: .*--before: .*found "-1"$/],
    [["diff-peers", "unix:/x", "--flow", "y"], /expected two at least, .*found one: unix:\/x$/],
    [
      ["diff-peers", "a:1", "a:1", "--flow", "y"],
      /^CONFIG_INVALID: .*found the same 2 times: a:1$/,
    ],
  ];
  for (const [args, expected] of cases) assert.match(await refusalOf(...args), expected);
  const { status, stderr } = gapless("buffer", "stat", empty);
  assert.deepEqual([status, /^DATA_NOT_YET_AVAILABLE: /.test(stderr)], [1, true], stderr);
  assert.equal(gapless("buffer", "trim", dbPath).status, 2);
  assert.deepEqual(fs.readdirSync(empty), []);
  assert.deepEqual(fs.readdirSync(dbPath), ["messages"]);
});

test("stat names what somebody is not going to get", async (context) => {
  const { dbPath } = await write(context, { cfName: "trades" });
  const buffer = await openMsgBuffer({
    component: "trades",
    storage: { dbPath, cfName: "trades" },
  });
  for (let id = 1n; id <= 4n; id++) {
    const loss = { cause: "passed-over", consumer: `c-${id}`, atMs: Date.now() } as const;
    buffer.recordLoss({ ...loss, fromId: id, throughId: 10n * id });
  }
  await buffer.close();
  const { stdout } = gapless("buffer", "stat", dbPath, "--family", "trades");
  assert.match(stdout, /^ {2}losses {3}4, the newest:$/m);
  assert.doesNotMatch(stdout, /c-1/);
  assert.match(stdout, /^ {2}loss {5}passed-over, c-4, id 4 to 40, \d+ m?s ago$/m);
  const { losses, unreadable } = documentOf("stat", dbPath, "--family", "trades");
  assert.equal(unreadable, 0);
  assert.partialDeepStrictEqual(losses, [{ consumer: "c-1", fromId: "1", throughId: "10" }]);
});
