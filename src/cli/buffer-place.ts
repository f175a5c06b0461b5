/** Where the buffer is that a command is to look at: in files, or behind the socket of a peer. */
import fs from "node:fs";
import path from "node:path";
import type { Command } from "commander";
import type { BufferArchive, BufferLosses, BufferStats, MsgBuffer } from "../buffer/buffer.ts";
import { idMax, markFile, rocksDirectory } from "../buffer/cold-layout.ts";
import { invalidConfig } from "../config.ts";
import { GaplessError, isGaplessError } from "../errors.ts";
import { connectTo, peerOptionIn, type PeerFlags } from "./buffer-peer.ts";

export interface FamilyFlags {
  readonly family: string;
}

export interface PlaceFlags extends FamilyFlags, PeerFlags {
  readonly peer?: string;
  readonly flow?: string;
}

/** A buffer that a command reads. */
export interface Place extends AsyncDisposable {
  /** The folder of its files, or the flow and the address that it is served at. */
  readonly name: string;
  readonly archive: BufferArchive;
  /** undefined behind a socket, where only the ids are told. */
  readonly stats: BufferStats | undefined;
  readonly losses: BufferLosses | undefined;
}

export function withFamily(command: Command): Command {
  return command.option("--family <name>", "which of the buffers under the path", "messages");
}

/** What asks a process that has the buffer open, instead of its files. */
export function withPeer(command: Command): Command {
  return command
    .option("--peer <address>", "ask who serves it: unix:/path or host:port, instead of a path")
    .option("--flow <name>", "with --peer: which of its flows");
}

/** @throws GaplessError DATA_NOT_YET_AVAILABLE where there is none; as `openMsgBuffer` */
export async function openPlace(dbPath: string | undefined, flags: PlaceFlags): Promise<Place> {
  const { peer: address, flow, family } = flags;
  checkPlace(dbPath, flags);
  if (address !== undefined && flow !== undefined) {
    const peer = await connectTo(address, flow, flags);
    return {
      name: `${flow} at ${address}`,
      archive: peer,
      stats: undefined,
      losses: undefined,
      [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
    };
  }
  const buffer = await openFamily(dbPath ?? "", family);
  try {
    return {
      name: path.resolve(dbPath ?? "", family),
      archive: buffer.archive,
      stats: await buffer.stats(),
      losses: buffer.losses(),
      [Symbol.asyncDispose]: () => buffer.close(),
    };
  } catch (error) {
    await buffer.close();
    throw error;
  }
}

/**
 * Opens what is there, and never makes anything.
 *
 * @param component What it calls itself, in metrics and to peers; the files do not say.
 * @throws GaplessError DATA_NOT_YET_AVAILABLE where there is none; as `openMsgBuffer`
 */
export async function openFamily(
  dbPath: string,
  family: string,
  component = family,
): Promise<MsgBuffer> {
  checkThere(dbPath, family);
  const { openMsgBuffer } = await import("../buffer/buffer.ts");
  try {
    return await openMsgBuffer({ component, storage: { dbPath, cfName: family } });
  } catch (error) {
    if (!isGaplessError(error, "ALREADY_OPEN")) throw error;
    const message = `${error.message} Or ask that process, where it serves it: --peer.`;
    throw new GaplessError(error.code, message, { cause: error });
  }
}

/** Names of the buffers under a path. */
export function familiesIn(dbPath: string): string[] {
  if (!isFolder(dbPath)) return [];
  return fs
    .readdirSync(dbPath)
    .filter((name) => isFamily(path.join(dbPath, name)))
    .toSorted();
}

/** Bytes of the files in a folder and below it, as far as they are there by then. */
export function bytesOnDisk(directory: string): number {
  return fs
    .readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => fs.statSync(path.join(directory, name), { throwIfNoEntry: false }))
    .reduce((sum, found) => sum + (found?.isFile() === true ? found.size : 0), 0);
}

/** @throws GaplessError CONFIG_INVALID for what is no u64 */
export function parseId(key: string, text: string): bigint {
  if (/^\d{1,20}$/.test(text) && BigInt(text) <= idMax) return BigInt(text);
  throw wrong(key, `expected an id, a whole number of 64 bits, found ${JSON.stringify(text)}`);
}

export function wrong(key: string, problem: string): GaplessError {
  return invalidConfig("command line", [{ key, problem }]);
}

/** What is missing is named, and what goes with something else than was said. */
function checkPlace(dbPath: string | undefined, flags: PlaceFlags): void {
  const { peer: address, flow } = flags;
  if (dbPath !== undefined) {
    if (address !== undefined)
      throw wrong("--peer", "expected either a path or a peer, found both");
    const other = flow === undefined ? peerOptionIn(flags) : "--flow";
    if (other !== undefined) throw wrong(other, "goes with --peer, and not with a path");
    return;
  }
  if (address !== undefined && flow === undefined) {
    throw wrong("--flow", "is missing: expected which of the flows of --peer");
  }
  if (address === undefined && flow !== undefined) {
    throw wrong("--peer", "is missing: expected the address of who serves --flow");
  }
  if (address === undefined) {
    throw wrong("path", "is missing: expected a directory, or --peer and --flow instead of it");
  }
}

function checkThere(dbPath: string, family: string): void {
  const directory = path.resolve(dbPath, family);
  if (isFamily(directory)) return;
  throw noBuffer(`in ${directory}`, dbPath);
}

/** @param where The command has looked for it: `in` or `under` a directory. */
export function noBuffer(where: string, dbPath: string): GaplessError {
  const message = `There is no buffer ${where}. ${adviceFor(path.resolve(dbPath))}`;
  return new GaplessError("DATA_NOT_YET_AVAILABLE", message);
}

/** Whoever waits for it to be made comes again; whoever has mistyped it sees where. */
function adviceFor(whole: string): string {
  const others = familiesIn(whole);
  if (others.length > 0) return `There are: --family ${others.join(", ")}.`;
  if (isFamily(whole)) {
    return `It is one itself: give ${path.dirname(whole)} --family ${path.basename(whole)}.`;
  }
  let nearest = whole;
  while (!fs.existsSync(nearest)) nearest = path.dirname(nearest);
  if (nearest !== whole) return `Check the path: of it, only ${nearest} exists.`;
  if (!isFolder(whole)) return `Check the path: ${whole} is no directory.`;
  return `Check the path: nothing under ${whole} is a buffer, or nobody has opened one yet.`;
}

/** Damaged ones too: those are for `openMsgBuffer` to judge. */
function isFamily(directory: string): boolean {
  return (
    fs.existsSync(path.join(directory, markFile)) || isFolder(path.join(directory, rocksDirectory))
  );
}

function isFolder(directory: string): boolean {
  return fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory() === true;
}
