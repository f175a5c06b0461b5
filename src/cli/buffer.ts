/** `gapless buffer`: what is to be known of buffers, and serving them. One file a subcommand. */
import { Command } from "commander";
import { bufferDiffPeers } from "./buffer-diff-peers.ts";
import { bufferGet } from "./buffer-get.ts";
import { bufferServe } from "./buffer-serve.ts";
import { bufferStat } from "./buffer-stat.ts";
import { bufferTrim } from "./buffer-trim.ts";
import { bufferVerify } from "./buffer-verify.ts";

export function buffer(): Command {
  return new Command("buffer")
    .description("Look at buffers, in files that nobody has open or where they are served.")
    .addCommand(bufferStat().exitOverride())
    .addCommand(bufferGet().exitOverride())
    .addCommand(bufferVerify().exitOverride())
    .addCommand(bufferTrim().exitOverride())
    .addCommand(bufferDiffPeers().exitOverride())
    .addCommand(bufferServe().exitOverride());
}
