#!/usr/bin/env bash
# Makes barnabas_plugin/plugin_pb2.py and its types from the protocol's definition.
#
# The generator is old on purpose: code that it makes runs with the protobuf
# package of its own version, 5.29, and every later one.
set -euo pipefail
cd "$(dirname "$0")"

readonly tools=grpcio-tools==1.71.2 # brings protoc 29

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$tools" "setuptools<81"

# The name that the definition is registered by is the package's own: a plugin
# may have a plugin.proto besides.
mkdir "$work/barnabas_plugin"
cp ../../core/wire/v1/plugin.proto "$work/barnabas_plugin/"
"$work/venv/bin/python" -m grpc_tools.protoc --proto_path="$work" --python_out=. --pyi_out=. \
  barnabas_plugin/plugin.proto
