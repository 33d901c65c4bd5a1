#!/usr/bin/env bash
# One process for each GPU, all of the same sweep; each network is trained by the first that claims it.
#   GPUS="0 1 2 3" launchers/gpus.sh model=resnet56 modifiers=sentinel_all
# Without GPUS: all that nvidia-smi lists. Each line that is printed begins with its GPU.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python}
GPUS=${GPUS:-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null)} || GPUS= # it prints errors, too
if [ -z "$GPUS" ]; then
    echo 'no GPU was found: name them, as in GPUS="0 1" launchers/gpus.sh ...' >&2
    exit 1
fi

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null' INT TERM
for gpu in $GPUS; do
    CUDA_VISIBLE_DEVICES=$gpu "$PYTHON" -m ssr_exp train "$@" trainer.progress=false > >(trap '' INT TERM && sed -u "s/^/gpu $gpu: /") 2>&1 &
    pids+=($!)
done
code=0
for pid in "${pids[@]}"; do
    wait "$pid" || code=$?
    while kill -0 "$pid" 2>/dev/null; do # a signal ends a wait before the process
        wait "$pid" || code=$?
    done
done
exit $code
