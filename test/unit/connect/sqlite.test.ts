import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import test from "node:test";
import {
  openSqliteReader,
  readCheckpoint,
  sqliteSink,
  type SqliteSink,
  type SqliteTables,
} from "../../../src/connect/sqlite.ts";
import { noRepair } from "../../../src/flow/endpoints.ts";
import { mountTinyDisk, tinyDiskRefused } from "../../support/tiny-disk.ts";
import { applyAll, i64Max, makeDirectory, makePath, query, tamper, withCode } from "./fixture.ts";
import type { Batch, Message } from "../../../src/message.ts";

/** Keeps the messages themselves. */
const seenTables: SqliteTables = {
  schema: "CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY, bytes BLOB) STRICT",
  prepare(database) {
    const insert = database.prepare("INSERT INTO seen VALUES (?, ?)");
    return (batch) => {
      for (const { id, bytes } of batch) insert.run(id, bytes);
    };
  },
};

function openSink(path: string, tables = seenTables, stream = "trades"): SqliteSink {
  return sqliteSink({ path, stream, tables, busyTimeoutMs: 0 });
}

/** A chain of messages behind `lastId`. */
function chain(lastId: bigint, ...ids: bigint[]): Batch {
  const messages = ids.map((id, index): Message => {
    const prevId = ids[index - 1] ?? lastId;
    return { id, prevId, timestampNs: id, bytes: new Uint8Array([1, 2, 3]) };
  });
  return messages as unknown as Batch;
}

function seenIds(path: string): unknown[] {
  return query(path, "SELECT id FROM seen ORDER BY id").flat();
}

test("rows and position are committed together, and found again", async (context) => {
  const path = makePath(context);
  {
    await using sink = openSink(path);
    assert.equal(await sink.position(), 0n);
    await sink.apply(chain(0n, 3n, 7n), noRepair);
    assert.equal(await sink.position(), 7n);
    await sink.apply(chain(7n, 8n), noRepair);
  }
  await using again = openSink(path);
  assert.equal(await again.position(), 8n);
  assert.deepEqual(seenIds(path), [3n, 7n, 8n]);
  await again.apply(chain(8n, 9n), noRepair);
  assert.deepEqual(seenIds(path), [3n, 7n, 8n, 9n]);
});

test("a commit is on the disk: full synchronisation, a write-ahead log", async (context) => {
  const settings: unknown[] = [];
  await using sink = openSink(makePath(context), {
    schema: "",
    prepare(database) {
      for (const name of ["synchronous", "journal_mode", "foreign_keys"]) {
        settings.push(Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
      }
      return () => undefined;
    },
  });
  assert.equal(await sink.position(), 0n);
  assert.deepEqual(settings, [2n, "wal", 1n]);
});

test("a batch that does not follow the position is refused whole", async (context) => {
  const path = makePath(context);
  await using sink = openSink(path);
  await sink.apply(chain(0n, 1n, 5n), noRepair);
  const cases: [Batch, string][] = [
    [chain(0n, 1n), "duplicate"],
    [chain(6n, 7n), "gap"],
    [chain(4n, 6n), "broken"],
    [[...chain(5n, 6n), ...chain(7n, 8n)], "gap"],
    [[...chain(5n, 6n), ...chain(5n, 6n)], "duplicate"],
  ];
  for (const [batch, placement] of cases) {
    await assert.rejects(
      sink.apply(batch, noRepair),
      withCode("CHAIN_BROKEN", "position=5", placement),
    );
    assert.equal(await sink.position(), 5n);
    assert.deepEqual(seenIds(path), [1n, 5n]);
  }
  await sink.apply(chain(5n, 6n), noRepair);
});

test("a room that throws has written nothing, and the sink goes on", async (context) => {
  const path = makePath(context);
  let reason: Error | undefined;
  await using sink = openSink(path, {
    schema: seenTables.schema,
    prepare(database) {
      const write = seenTables.prepare(database);
      return (batch) => {
        write(batch);
        if (reason !== undefined) throw reason;
      };
    },
  });
  await sink.apply(chain(0n, 1n), noRepair);
  reason = new RangeError("out of thin air");
  await assert.rejects(sink.apply(chain(1n, 2n), noRepair), reason);
  assert.equal(await sink.position(), 1n);
  assert.deepEqual(seenIds(path), [1n]);
  reason = undefined;
  await sink.apply(chain(1n, 2n), noRepair);
  assert.deepEqual(seenIds(path), [1n, 2n]);
});

test("what had to be repaired is added up with the position, per stream", async (context) => {
  const path = makePath(context);
  await using sink = openSink(path);
  using reader = openSqliteReader(path);
  assert.equal(readCheckpoint(reader, "trades"), null);
  await sink.apply(chain(0n, 1n), { gaps: 1, messages: 1 });
  await sink.apply(chain(1n, 2n), noRepair);
  await sink.apply(chain(2n, 3n, 4n), { gaps: 2, messages: 2 });
  await assert.rejects(sink.apply(chain(9n, 10n), { gaps: 1, messages: 1 }));
  const filled = { position: 4n, gapsFilled: 3n, messagesFilled: 3n };
  assert.deepEqual(readCheckpoint(reader, "trades"), filled);
  assert.equal(readCheckpoint(reader, "quotes"), null);
});

test("streams that share a file keep their own positions", async (context) => {
  const path = makePath(context);
  await using trades = openSink(path);
  await using quotes = openSink(path, { schema: "", prepare: () => () => undefined }, "quotes");
  await trades.apply(chain(0n, 10n), noRepair);
  await quotes.apply(chain(0n, 3n), noRepair);
  assert.equal(await trades.position(), 10n);
  assert.equal(await quotes.position(), 3n);
});

test("a second writer of a stream cannot write a message twice", async (context) => {
  const path = makePath(context);
  await using one = openSink(path);
  await using other = openSink(path);
  await one.apply(chain(0n, 1n), noRepair);
  await assert.rejects(other.apply(chain(0n, 1n), noRepair), withCode("CHAIN_BROKEN", "duplicate"));
  await other.apply(chain(1n, 2n), noRepair);
  assert.equal(await one.position(), 2n);
  assert.deepEqual(seenIds(path), [1n, 2n]);
});

test("the largest id of 63 bits is kept exactly, and a larger one refused", async (context) => {
  const path = makePath(context);
  await using sink = openSink(path);
  await sink.apply(chain(0n, i64Max - 1n), noRepair);
  for (const id of [i64Max + 1n, 2n ** 64n - 1n]) {
    await assert.rejects(
      sink.apply(chain(i64Max - 1n, id), noRepair),
      withCode("AMOUNT_OVERFLOW", `id=${id.toString()}`),
    );
  }
  await sink.apply(chain(i64Max - 1n, i64Max), noRepair);
  assert.equal(await sink.position(), i64Max);
  assert.deepEqual(seenIds(path), [i64Max - 1n, i64Max]);
});

test("a reader sees whole commits, stops no writer, and cannot write", async (context) => {
  const path = makePath(context);
  let seenInside: unknown[] = [];
  await using sink = openSink(path, {
    schema: seenTables.schema,
    prepare(database) {
      const write = seenTables.prepare(database);
      return (batch) => {
        write(batch);
        seenInside = seenIds(path);
      };
    },
  });
  await sink.apply(chain(0n, 1n), noRepair);
  using reader = openSqliteReader(path);
  const count = reader.prepare("SELECT count(*) FROM seen");
  reader.exec("BEGIN");
  assert.deepEqual(Object.values(count.get() ?? {}), [1n]);
  await sink.apply(chain(1n, 2n), noRepair);
  assert.deepEqual(seenInside, [1n]);
  assert.deepEqual(Object.values(count.get() ?? {}), [1n]);
  reader.exec("COMMIT");
  assert.deepEqual(Object.values(count.get() ?? {}), [2n]);
  assert.throws(() => reader.exec("DELETE FROM seen"), /readonly/);
});

test("a file that another is writing to is ALREADY_OPEN until he is done", async (context) => {
  const path = makePath(context);
  await using sink = openSink(path);
  await sink.apply(chain(0n, 1n), noRepair);
  using other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  await assert.rejects(sink.apply(chain(1n, 2n), noRepair), withCode("ALREADY_OPEN", path));
  assert.throws(() => openSink(path), withCode("ALREADY_OPEN", path));
  assert.equal(await sink.position(), 1n);
  other.exec("ROLLBACK");
  await sink.apply(chain(1n, 2n), noRepair);
  assert.deepEqual(seenIds(path), [1n, 2n]);
});

test("a file that is no database is refused, and left as it is", (context) => {
  const path = makePath(context);
  const text = "id,price\n".repeat(1000);
  fs.writeFileSync(path, text);
  assert.throws(() => openSink(path), withCode("STORAGE_CORRUPT", path, "backup"));
  assert.throws(() => openSqliteReader(path), withCode("STORAGE_CORRUPT", path));
  assert.equal(fs.readFileSync(path, "utf8"), text);
});

test("pages that were overwritten are reported as what they are", async (context) => {
  const path = makePath(context);
  {
    await using sink = openSink(path);
    await sink.apply(chain(0n, 1n, 2n, 3n), noRepair);
  }
  // All but the header, which is what tells a database from other files.
  const fd = fs.openSync(path, "r+");
  const { size } = fs.fstatSync(fd);
  fs.writeSync(fd, new Uint8Array(size - 100).fill(0xa5), 0, size - 100, 100);
  fs.closeSync(fd);
  assert.throws(() => openSink(path), withCode("STORAGE_CORRUPT", path, "-wal"));
});

test("rows that contradict their position are reported, not written over", async (context) => {
  const path = makePath(context);
  await using sink = openSink(path);
  await sink.apply(chain(0n, 1n, 2n), noRepair);
  tamper(path, "UPDATE checkpoint SET position = 1");
  await assert.rejects(sink.apply(chain(1n, 2n), noRepair), withCode("STORAGE_CORRUPT", "seen.id"));
  assert.deepEqual(seenIds(path), [1n, 2n]);
  assert.equal(await sink.position(), 1n);
});

test("a path where no file can be is a mistake in the configuration", (context) => {
  const directory = makeDirectory(context);
  const nowhere = path.join(directory, "no", "such", "file");
  assert.throws(() => openSink(nowhere), withCode("CONFIG_INVALID", nowhere));
  assert.throws(() => openSink(directory), withCode("CONFIG_INVALID", directory));
  assert.throws(() => openSqliteReader(nowhere), withCode("CONFIG_INVALID", nowhere));
});

test("a closed sink says so, and closing it again is harmless", async (context) => {
  const filePath = makePath(context);
  const sink = openSink(filePath);
  await sink.apply(chain(0n, 1n), noRepair);
  await sink[Symbol.asyncDispose]();
  await sink[Symbol.asyncDispose]();
  await assert.rejects(sink.position(), withCode("CLOSED", filePath));
  await assert.rejects(sink.apply(chain(1n, 2n), noRepair), withCode("CLOSED"));
  assert.deepEqual(fs.readdirSync(path.dirname(filePath)), ["rows.sqlite"]);
});

test("a room that cannot open leaves the file free for the next", async (context) => {
  const path = makePath(context);
  const refuse = (): never => {
    throw new Error("of another market");
  };
  assert.throws(() => openSink(path, { schema: "", prepare: refuse }), /another market/);
  assert.throws(
    () => openSink(path, { schema: "CREATE", prepare: refuse }),
    withCode("SYSTEM_CALL_FAILED", "incomplete input"),
  );
  await using sink = openSink(path);
  await sink.apply(chain(0n, 1n), noRepair);
});

test(
  "a full disk takes nothing of a batch, keeps what was there, and goes on when there is room",
  { skip: tinyDiskRefused },
  async (context) => {
    const directory = mountTinyDisk(context, 1024 * 1024);
    const filePath = path.join(directory, "rows.sqlite");
    const ballast = path.join(directory, "ballast");
    fs.writeFileSync(ballast, new Uint8Array(512 * 1024));
    const large = (lastId: bigint): Batch => [
      { id: lastId + 1n, prevId: lastId, timestampNs: 0n, bytes: new Uint8Array(40_000) },
    ];
    await using sink = openSink(filePath);
    let last = 0n;
    const fill = async (): Promise<void> => {
      for (; last < 100n; last++) await sink.apply(large(last), noRepair);
    };
    await assert.rejects(fill(), withCode("STORAGE_FULL", filePath));
    assert.ok(last > 0n);
    const ids = Array.from({ length: Number(last) }, (_, index) => BigInt(index + 1));
    assert.equal(await sink.position(), last);
    assert.deepEqual(seenIds(filePath), ids);
    await assert.rejects(sink.apply(large(last), noRepair), withCode("STORAGE_FULL"));
    fs.rmSync(ballast);
    await applyAll(sink, [large(last)]);
    assert.deepEqual(seenIds(filePath), [...ids, last + 1n]);
  },
);

test("a disk that is full from the start takes no file", { skip: tinyDiskRefused }, (context) => {
  const directory = mountTinyDisk(context, 65_536);
  fs.writeFileSync(path.join(directory, "ballast"), new Uint8Array(65_536));
  const filePath = path.join(directory, "rows.sqlite");
  assert.throws(() => openSink(filePath), withCode("STORAGE_FULL", filePath));
});
