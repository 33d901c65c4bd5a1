#!/usr/bin/env bash
# The CIFAR-10 studies, on two CPU cores: two trainings at once, one thread each. Repeat it to go on.
#   nice -n 19 bash results/cifar10/study.sh DIR [RUNS]
# DIR holds train/CLASS/* and test/CLASS/*; RUNS (runs/cifar10) takes the runs.
set -euo pipefail
data=$(realpath "$1")
runs=${2:-runs/cifar10}
export OMP_NUM_THREADS=1 WANDB_MODE=disabled
python=.venv/bin/python

common=(
    dataset=image_folder dataset.root="$data" dataset.crop_padding=4 dataset.flip=true
    recipe=sgd recipe.batch_size=128 recipe.lr=0.4 recipe.schedule=linear recipe.warmup_epochs=2
    trainer=cpu trainer.precision=bf16-mixed trainer.channels_last=true trainer.threads=1 trainer.progress=false
    hydra/launcher=joblib hydra.launcher.n_jobs=2 logger=disabled
)

# The weight decay is chosen on the baseline alone, on val.
"$python" train.py model=resnet20 modifiers=baseline "${common[@]}" trainer.max_epochs=24 \
    recipe.weight_decay=2e-4,5e-4 paths.runs="$runs"
decay=$("$python" - "$runs" <<'PY'
import json, pathlib, sys
runs = [
    (record["val_acc"], json.loads((path.parents[2] / "study.json").read_text())["recipe"]["weight_decay"])
    for path in pathlib.Path(sys.argv[1]).glob("resnet20-*/d3-3-3_w16-32-64/seed0/record.json")
    if (record := json.loads(path.read_text()))["epochs"] == 24 and record["val_acc"] is not None
]
print(max(runs)[1])
PY
)
echo "weight decay: $decay"

"$python" search.py model=resnet20 "${common[@]}" trainer.max_epochs=24 recipe.weight_decay="$decay" paths.runs="$runs" \
    rounds=3 batch=4 objective=smallest objective.max_drop=1.0 \
    finalists.seeds=3 finalists.arms=[uniform_width,uniform_depth,family,random]
