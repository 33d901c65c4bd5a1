#!/usr/bin/env bash
# The CIFAR-10 study, on two CPU cores: two trainings at once, one thread each. Repeat it to go on.
#   nice -n 19 bash results/cifar10/study.sh DIR [RUNS]
# DIR holds train/CLASS/* and test/CLASS/*; RUNS (runs/cifar10) takes the runs.
# The recipe was chosen on the baseline alone, on val: see README.md beside this file.
set -euo pipefail
data=$(realpath "$1")
runs=${2:-runs/cifar10}
export OMP_NUM_THREADS=1 WANDB_MODE=disabled

.venv/bin/python search.py model=resnet20 \
    dataset=image_folder dataset.root="$data" dataset.crop_padding=4 dataset.flip=true \
    recipe=sgd recipe.batch_size=128 recipe.lr=0.4 recipe.schedule=linear recipe.warmup_epochs=2 \
    recipe.weight_decay=2e-4 trainer=cpu trainer.max_epochs=24 trainer.channels_last=true \
    trainer.precision=bf16-mixed trainer.threads=1 trainer.progress=false logger=disabled paths.runs="$runs" \
    hydra/launcher=joblib hydra.launcher.n_jobs=2 \
    rounds=3 batch=4 objective=smallest objective.max_drop=1.0 \
    finalists.seeds=3 finalists.arms=[uniform_width,uniform_depth,family,random]
