/** The conventions that a machine can check: see docs/architecture.md. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import ts from "typescript";

const root = path.resolve(import.meta.dirname, "..");

/** Tracked files and those that are about to be. */
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file !== "" && fs.existsSync(path.join(root, file)));

/** Of a test its name is a sentence, which nothing breaks in two. */
const isTooLong = (line: string): boolean =>
  Array.from(line).length > 100 && !/^\s*(test|await t\.test)\(/.test(line);

const isGenerated = (file: string): boolean => file.startsWith("src/buffer/proto/");
const sources = files.filter((file) => file.endsWith(".ts") && !isGenerated(file));
const read = (file: string): string => fs.readFileSync(path.join(root, file), "utf8");

/** Whom each room of src/ may import, besides itself and the loose files. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  memory: [],
  bus: ["memory"],
  telemetry: ["bus", "buffer"],
  sidecar: [],
  logging: ["memory", "sidecar"],
  queue: ["memory", "sidecar", "logging"],
  flow: ["memory", "bus", "queue"],
  buffer: ["memory", "flow"],
  connect: ["flow"],
  settlement: ["flow"],
  analytics: ["flow"],
  testing: [],
  supervise: ["memory", "bus"],
  tlv: [],
  cli: ["memory", "bus", "queue", "buffer", "telemetry", "supervise", "tlv"],
};

/** The one place that each package is for. Types of anything may be imported anywhere. */
const licensed: Readonly<Record<string, readonly string[]>> = {
  koffi: ["src/memory/"],
  "@nxtedition/rocksdb": ["src/buffer/"],
  "@connectrpc/connect": ["src/buffer/"],
  "@connectrpc/connect-node": ["src/buffer/"],
  "@bufbuild/protobuf": ["src/buffer/", "test/unit/buffer/"],
  "@grpc/grpc-js": ["test/"],
  "@grpc/proto-loader": ["test/"],
  "smol-toml": ["src/config.ts"],
  commander: ["src/cli/"],
  "@opentelemetry/api": ["src/telemetry/", "src/cli/", "test/unit/telemetry/"],
  "@opentelemetry/sdk-metrics": ["src/cli/", "test/unit/telemetry/"],
  "@opentelemetry/exporter-prometheus": ["src/cli/"],
  "@opentelemetry/resources": ["src/cli/"],
  "@opentelemetry/exporter-metrics-otlp-http": ["src/cli/"],
  zod: ["src/"],
  "nodejs-order-book": ["examples/exchange/"],
  "hdr-histogram-js": ["bench/"],
  "@platformatic/kafka": ["src/connect/kafka-partition.ts"],
  kafkajs: ["test/"],
  "@nats-io/jetstream": ["src/connect/", "test/"],
  "@nats-io/transport-node": ["src/connect/", "test/"],
  redis: ["bench/peers/", "test/"],
  zeromq: ["bench/peers/"],
  "fast-check": ["test/"],
  typescript: ["test/tidy.test.ts", "test/support/interleave/"],
};

interface Import {
  readonly file: string;
  readonly specifier: string;
}

const imports: Import[] = sources.flatMap((file) =>
  ts
    .preProcessFile(read(file), true, true)
    .importedFiles.map(({ fileName }) => ({ file, specifier: fileName })),
);

/** Fails with every finding, so that one run shows all of them. */
function expectNone(findings: readonly string[]): void {
  assert.deepEqual(findings, []);
}

test("no line is longer than 100 columns", () => {
  const isProse = (file: string): boolean => /\.(md|json|proto|txt)$/.test(file);
  expectNone(
    files
      .filter(
        (file) => /\.(ts|js|mjs|c|toml|sh)$/.test(file) && !isProse(file) && !isGenerated(file),
      )
      .flatMap((file) =>
        read(file)
          .split("\n")
          .flatMap((line, index) => (isTooLong(line) ? [`${file}:${index + 1}`] : [])),
      ),
  );
});

test("rooms import only in the direction of the architecture", () => {
  expectNone(
    imports.flatMap(({ file, specifier }) => {
      const [top, room = ""] = file.split("/");
      if (top !== "src" || !specifier.startsWith(".")) return [];
      const target = path.relative(root, path.resolve(root, path.dirname(file), specifier));
      const [targetTop, targetRoom = ""] = target.split(path.sep);
      const where = `${file} imports ${specifier}`;
      if (targetTop !== "src") return [where];
      const isLoose = targetRoom.endsWith(".ts");
      const fromLoose = room.endsWith(".ts");
      if (fromLoose) return isLoose ? [] : [where];
      if (isLoose || targetRoom === room) return [];
      return mayImport[room]?.includes(targetRoom) === true ? [] : [where];
    }),
  );
});

test("a third-party package is imported only where it is licensed", () => {
  expectNone(
    imports.flatMap(({ file, specifier }) => {
      if (/^(\.|node:|gapless\/)/.test(specifier)) return [];
      const name = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
      const places = licensed[name] ?? [];
      return places.some((place) => file.startsWith(place)) ? [] : [`${file} imports ${specifier}`];
    }),
  );
});

test("there are no barrels and no rooms without a subject", () => {
  const banned = /(^|\/)(index|utils?|helpers?|managers?|misc|common)(\.ts$|\/)/;
  expectNone(sources.filter((file) => banned.test(file)));
});

test("nothing is left to do, and no test is left out or alone", () => {
  const leftover = new RegExp(
    [
      "\\bTO" + "DO\\b",
      "\\bFIX" + "ME\\b",
      // Of whatever: nothing else has a method of that name.
      "\\.(on" + "ly|sk" + "ip)\\(",
    ].join("|"),
  );
  expectNone(
    sources.flatMap((file) =>
      read(file)
        .split("\n")
        .flatMap((line, index) =>
          leftover.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [],
        ),
    ),
  );
});

test("each guarantee names a test that exists", () => {
  const names = new Set(
    sources
      .filter((file) => file.endsWith(".test.ts"))
      .flatMap((file) =>
        // Of a name that is made for several tests, what they have in common at its beginning.
        [...read(file).matchAll(/\b(?:test|it)\(\s*(?:"([^"]+)"|`([^`$]+?)[: ]*[`$])/g)].map(
          (match) => match[1] ?? match[2],
        ),
      ),
  );
  const guarantees = read("docs/guarantees.md").split(/^## /m).slice(1);
  assert.ok(guarantees.length > 0, "docs/guarantees.md has no guarantee");
  expectNone(
    guarantees.flatMap((guarantee) => {
      const title = guarantee.split("\n")[0] ?? "";
      const named = [...guarantee.matchAll(/^- test: `([^`]+)`/gm)].map((match) => match[1] ?? "");
      if (named.length === 0 && !guarantee.includes("\nNot yet promised"))
        return [`${title}: no test`];
      return named.filter((name) => !names.has(name)).map((name) => `${title}: ${name}`);
    }),
  );
});

test("every public export is documented, itself or by its members", () => {
  const manifest = JSON.parse(read("package.json")) as {
    exports: Record<string, string | { source: string }>;
  };
  const doors = Object.values(manifest.exports).flatMap((entry) =>
    typeof entry === "string" ? [] : [path.join(root, entry.source)],
  );
  const config = ts.readConfigFile(path.join(root, "tsconfig.json"), (file) =>
    ts.sys.readFile(file),
  );
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, root);
  const program = ts.createProgram(doors, options);
  const checker = program.getTypeChecker();
  expectNone(
    doors.flatMap((door) => {
      const source = program.getSourceFile(door);
      const symbol = source === undefined ? undefined : checker.getSymbolAtLocation(source);
      assert.ok(symbol !== undefined, `${door} exports nothing`);
      return checker.getExportsOfModule(symbol).flatMap((exported) => {
        const target =
          (exported.flags & ts.SymbolFlags.Alias) === 0
            ? exported
            : checker.getAliasedSymbol(exported);
        const isDocumented = [target, ...(target.members?.values() ?? [])].some(
          (one) =>
            one.getDocumentationComment(checker).length > 0 || one.getJsDocTags(checker).length > 0,
        );
        return isDocumented ? [] : [`${path.relative(root, door)}: ${exported.name}`];
      });
    }),
  );
});

test("the doors of package.json are there, and built from the same source", () => {
  const manifest = JSON.parse(read("package.json")) as {
    exports: Record<string, string | Record<string, string>>;
  };
  expectNone(
    Object.entries(manifest.exports).flatMap(([door, entry]) => {
      if (typeof entry === "string") return [];
      const built = entry["source"]?.replace("./src/", "./dist/");
      const isRight =
        fs.existsSync(path.join(root, entry["source"] ?? "")) &&
        entry["default"] === built?.replace(/\.ts$/, ".js") &&
        entry["types"] === built?.replace(/\.ts$/, ".d.ts");
      return isRight ? [] : [door];
    }),
  );
});
