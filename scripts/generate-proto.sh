#!/bin/sh
# Generates the TypeScript of the .proto files in spec into a folder, src/buffer/proto unless
# another is named. Needs protoc on the PATH; the plugin comes with `npm ci`.
set -eu
cd "$(dirname "$0")/.."
out=${1:-src/buffer/proto}
mkdir -p "$out"
PATH="$PWD/node_modules/.bin:$PATH"
protoc --proto_path=spec --es_out="$out" \
  --es_opt=target=ts,import_extension=ts,erasable_syntax=true \
  msg_sync.proto grpc/health/v1/health.proto
