// Installs from the lockfile what is missing. Runs on any Node from 20 on, before there is ours.
import { spawnSync } from "node:child_process";
import fs from "node:fs";

// npm writes this file last, so an install that was interrupted is done again.
const installed = fs.statSync("node_modules/.package-lock.json", { throwIfNoEntry: false });
const wanted = fs.statSync("package-lock.json");
if (installed === undefined || installed.mtimeMs < wanted.mtimeMs) {
  console.log("Installing what package-lock.json names (once, about 20 s) ...");
  const npm = process.env.npm_execpath;
  const [command, ...args] = npm === undefined ? ["npm"] : [process.execPath, npm];
  const { status } = spawnSync(
    command,
    [...args, "ci", "--no-audit", "--no-fund", "--loglevel=error"],
    { stdio: "inherit" },
  );
  if (status !== 0) process.exit(status ?? 1);
}
