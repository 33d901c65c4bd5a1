#!/bin/sh
# Fetch into FOLDER what a machine lacks that brings Python 3.12 with PyTorch, Lightning and rich,
# in the lock file's versions: sh benchmarks/wheels.sh FOLDER
set -eu
cd "$(dirname "$0")/.."
names="hydra-core omegaconf antlr4-python3-runtime wandb pydantic pydantic-core annotated-types
typing-inspection platformdirs googleapis-common-protos opentelemetry-api opentelemetry-sdk
opentelemetry-proto opentelemetry-semantic-conventions opentelemetry-exporter-http-transport
opentelemetry-exporter-otlp-common opentelemetry-exporter-otlp-proto-common
opentelemetry-exporter-otlp-proto-http"
for name in $names; do
  wanted=$(grep -oE "^$name==[^ ]+" requirements.lock)
  case $name in
    # It has no wheel of its own.
    antlr4*) python3 -m pip wheel -q --no-deps -w "$1" "$wanted" ;;
    *) python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
      --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
      --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$1" "$wanted" ;;
  esac
done
ls "$1"
