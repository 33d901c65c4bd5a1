#!/usr/bin/env bash
# The CIFAR-10 studies, on two CPU cores: two trainings at once, one thread each. Repeat one to go on.
#   [ROUNDS=3] nice -n 19 bash results/cifar10/study.sh resnet20|resnet56|scbp DIR [RUNS]
# DIR holds train/CLASS/* and test/CLASS/*; RUNS (runs/cifar10) takes the runs.
# One answer is tested, and no other in its place (retries): nothing is chosen by test.
# The recipe was chosen on ResNet-20's baseline alone, on val: see ../cifar10.md.
set -euo pipefail
part=$1 data=$(realpath "$2") runs=${3:-runs/cifar10}
export OMP_NUM_THREADS=1 WANDB_MODE=disabled
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1} # the same results, sooner: docs/guides/training.md

recipe=(dataset=image_folder dataset.root="$data" dataset.crop_padding=4 dataset.flip=true
    recipe=sgd recipe.batch_size=128 recipe.lr=0.4 recipe.schedule=linear recipe.warmup_epochs=2
    recipe.weight_decay=2e-4 trainer=cpu trainer.channels_last=true
    trainer.precision=bf16-mixed trainer.threads=1 trainer.progress=false logger=disabled paths.runs="$runs"
    hydra/launcher=joblib hydra.launcher.n_jobs=2)
search=(rounds="${ROUNDS:-3}" batch=4 objective=smallest objective.max_drop=1.0
    finalists.seeds=3 finalists.retries=0 'finalists.arms=[uniform_width,uniform_depth,family,random]')

case $part in
resnet20) .venv/bin/ssr search model=resnet20 trainer.max_epochs=24 "${recipe[@]}" "${search[@]}" ;;
resnet56) .venv/bin/ssr search model=resnet56 trainer.max_epochs=15 "${recipe[@]}" "${search[@]}" ;;
scbp) .venv/bin/ssr train -m model=resnet20 segment=superblock modifiers=scbp modifiers.count=4 \
    trainer.max_epochs=24 trainer.test=true "${recipe[@]}" ;;
*) echo "'$part' is none of resnet20, resnet56, scbp" >&2 && exit 2 ;;
esac
