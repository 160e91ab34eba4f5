#!/bin/sh
# Generates the code in v1/ from v1/plugin.proto. Needs protoc (3.21 is what
# Debian 12 has) and Go; the generators are installed into a temporary folder.
set -eu
cd "$(dirname "$0")"

PROTOC_GEN_GO=v1.36.12
PROTOC_GEN_GO_GRPC=v1.6.2
PROTOC_GEN_GO_VTPROTO=v0.6.1-0.20240319094008-0393e58bdf10

command -v protoc >/dev/null || {
	echo "generate.sh: protoc is missing: install protobuf-compiler" >&2
	exit 1
}

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOC_GEN_GO"
GOBIN=$bin go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$PROTOC_GEN_GO_GRPC"
GOBIN=$bin go install "github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto@$PROTOC_GEN_GO_VTPROTO"

PATH=$bin:$PATH protoc -I v1 \
	--go_out=v1 --go_opt=paths=source_relative \
	--go-grpc_out=v1 --go-grpc_opt=paths=source_relative \
	--go-vtproto_out=v1 --go-vtproto_opt=paths=source_relative \
	--go-vtproto_opt=features=marshal+unmarshal+unmarshal_unsafe+size \
	plugin.proto
