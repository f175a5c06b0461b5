/** The jars of the broker: fetched by Maven once, then found again without it. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const pom = path.join(import.meta.dirname, "pom.xml");
/** The first time downloads some 100 MB. */
const mavenMsMax = 300_000;
const javaMajorMin = 17;

export interface ClassPath {
  readonly classPath: string;
  /**
   * The classes of a broker as the JVM has them in memory: with it a start takes a third of the
   * time. The first broker that ends in peace writes it.
   */
  readonly archive: string;
}

/** What the broker is started with, or why it cannot be. */
export function findClassPath(): ClassPath | { readonly missing: string } {
  const java = spawnSync("java", ["-version"], { encoding: "utf8" });
  if (java.status !== 0) return { missing: "needs java (Debian: openjdk-17-jre-headless)" };
  const major = Number(/version "(\d+)/.exec(java.stderr)?.[1]);
  if (!(major >= javaMajorMin)) {
    return { missing: `needs java ${javaMajorMin} or newer, found ${String(major)}` };
  }
  // Of the pom and the JVM as they are now: other ones have other files.
  const sum = createHash("sha256").update(fs.readFileSync(pom)).update(java.stderr).digest("hex");
  const root = process.env["XDG_CACHE_HOME"] ?? path.join(os.homedir(), ".cache");
  const cached = path.join(root, "gapless", `kafka-${sum.slice(0, 16)}`);
  const file = `${cached}.classpath`;
  const classPath = readClassPath(file) ?? fetchClassPath(file);
  return typeof classPath === "string" ? { classPath, archive: `${cached}.jsa` } : classPath;
}

/** undefined where it was never fetched, or a jar has gone since. */
function readClassPath(file: string): string | undefined {
  try {
    const classPath = fs.readFileSync(file, "utf8").trim();
    return classPath.split(":").every((jar) => fs.existsSync(jar)) ? classPath : undefined;
  } catch {
    return undefined;
  }
}

function fetchClassPath(file: string): string | { readonly missing: string } {
  if (spawnSync("mvn", ["--version"]).status !== 0) return { missing: "needs mvn (Debian: maven)" };
  fs.mkdirSync(path.dirname(file), { recursive: true });
  // Under a name of its own until it is whole: other tests may be at it, too.
  const unfinished = `${file}.${process.pid}`;
  const settings = ["-B", "-q", "-f", pom, `-Dmdep.outputFile=${unfinished}`];
  const maven = spawnSync("mvn", [...settings, "dependency:build-classpath"], {
    encoding: "utf8",
    timeout: mavenMsMax,
  });
  if (maven.status !== 0) {
    const [reason = "no answer"] = maven.stdout.split("\n").filter((line) => line !== "");
    return { missing: `needs the jars of Kafka from Maven Central: ${reason.slice(0, 200)}` };
  }
  fs.renameSync(unfinished, file);
  return fs.readFileSync(file, "utf8").trim();
}
