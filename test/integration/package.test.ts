/** The package as it is published: built, and installed where a user has it. */
import assert from "node:assert/strict";
import { spawn, spawnSync, type SpawnSyncReturns } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { connectPeer, openMsgBuffer } from "gapless/buffer";
import { makeMessages } from "../unit/buffer/fixture.ts";

interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, unknown>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
}

const root = path.resolve(import.meta.dirname, "../..");
const manifestText = fs.readFileSync(path.join(root, "package.json"), "utf8");
const manifest = JSON.parse(manifestText) as Manifest;

/** Of a user, who has installed the package there. */
const home = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-package-"));
const installed = path.join(home, "node_modules/gapless");
const command = path.join(installed, "dist/cli/gapless.js");

before(() => {
  fs.mkdirSync(installed, { recursive: true });
  fs.writeFileSync(path.join(installed, "package.json"), manifestText);
  fs.symlinkSync(path.join(root, "node_modules"), path.join(installed, "node_modules"));
  const compiler = path.join(root, "node_modules/typescript/bin/tsc");
  const build = ["-p", "tsconfig.build.json", "--outDir", path.join(installed, "dist")];
  const { status, stdout } = spawnSync(process.execPath, [compiler, ...build], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(status, 0, stdout);
});
after(() => fs.rmSync(home, { recursive: true, force: true }));

function run(node: string, ...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(node, args, { cwd: home, encoding: "utf8", timeout: 30_000 });
}

interface Specifier {
  readonly file: string;
  readonly specifier: string;
}

/** What the built modules import, then or later, and what they start beside them. */
function specifiersIn(directory: string): Specifier[] {
  const specifiers = /\b(?:from |import |import\(|new URL\()"([^"\s]+)"/g;
  return fs
    .readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".js"))
    .flatMap((file) => {
      const text = fs.readFileSync(path.join(directory, file), "utf8");
      return [...text.matchAll(specifiers)].map(([, specifier = ""]) => ({ file, specifier }));
    });
}

test("what is built names no source file, and no package that is not installed with it", () => {
  const found = specifiersIn(path.join(installed, "dist"));
  assert.ok(found.length > 500, `${found.length} specifiers`);
  const packages = new Set([
    ...Object.keys(manifest.dependencies),
    ...Object.keys(manifest.peerDependencies),
  ]);
  const isWrong = ({ specifier }: Specifier): boolean => {
    if (specifier.startsWith(".")) return specifier.endsWith(".ts");
    const name = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
    return !specifier.startsWith("node:") && !packages.has(name);
  };
  assert.deepEqual(found.filter(isWrong), []);
});

test("each door of the package opens", () => {
  const doors = Object.keys(manifest.exports).filter((door) => door !== "./package.json");
  const imports = doors.map((door) => `await import("gapless${door.slice(1)}");`);
  fs.writeFileSync(path.join(home, "doors.mjs"), imports.join("\n"));
  const { status, stderr } = run(process.execPath, "doors.mjs");
  assert.equal(status, 0, stderr);
});

test("the installed command serves a buffer, and tells its version", async (context) => {
  assert.equal(run(process.execPath, command, "--version").stdout, `${manifest.version}\n`);
  const dbPath = path.join(home, "exchange");
  const messages = makeMessages(0n, 5);
  {
    await using buffer = await openMsgBuffer({ component: "trades", storage: { dbPath } });
    await buffer.append(messages);
  }
  const socket = `unix:${path.join(home, "peers.sock")}`;
  const args = [command, "buffer", "serve", dbPath, "--listen", socket, "--prometheus", "0"];
  const child = spawn(process.execPath, [...args, "--json"], {
    cwd: home,
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  const ended = once(child, "exit");
  const told = once(createInterface({ input: child.stdout }), "line");
  const [line] = (await Promise.race([told, ended])) as [unknown];
  assert.equal(typeof line, "string", `it ended with ${String(line)}`);
  {
    await using peer = connectPeer({ address: socket, flow: "messages" });
    assert.deepEqual(await peer.read(1n, 10), messages);
  }
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null]);
});

test("an older Node is told which one is needed, in one line", () => {
  const pretended = path.join(home, "older.mjs");
  const versions = '{ ...process.versions, node: "20.1.0" }';
  fs.writeFileSync(
    pretended,
    `Object.defineProperty(process, "versions", { value: ${versions} });`,
  );
  const needed =
    /^PLATFORM_UNSUPPORTED: gapless needs Node 24 or newer, and \S+ is Node 2\d\..*\n$/;
  const older = run(process.execPath, "--import", pretended, command, "--help");
  assert.deepEqual([older.status, older.stdout], [1, ""]);
  assert.match(older.stderr, needed);
  // What is imported before the question is what every Node has.
  const loaded = specifiersIn(path.dirname(command))
    .filter(({ file }) => file === path.basename(command))
    .map(({ specifier }) => specifier);
  assert.deepEqual(loaded.toSorted(), ["../../package.json", "./program.js", "node:fs"]);
  const text = fs.readFileSync(command, "utf8");
  assert.match(text, /await import\("\.\/program\.js"\)/);
});
