#!/usr/bin/env bash
# The table of TIN100-LT at 45 epochs and docs/findings.md, kept under results/tin100_short. Needs Tiny ImageNet's first 100
# classes as folders, and a GPU: about three minutes a run there; several share a card (ours: 20 at once on an H100, ten minutes).
#   ROOT=data/tiny-imagenet-100 SEEDS="0 1 2" PYTHON=.venv/bin/python examples/tin100_table.sh
# Finished runs are skipped, so that it may be started again. The values of the second stages of cRT, LWS and DRO-LT were
# chosen under protocol=holdout, three configurations each: docs/fairness.md. On a CPU: EXPERIMENT="experiment=tin100_short".
set -euo pipefail
python="${PYTHON:-python}" root="${ROOT:-data/tiny-imagenet-100}"
experiment="${EXPERIMENT:-experiment=speed/cifar_shape schedule=tin100_short compile=null}"
run() {  # folder, seed, overrides
  local folder=outputs/tin100_short/$1/seed$2 seed=$2 name=$1
  shift 2
  # shellcheck disable=SC2086
  [ -f "$folder/results.json" ] ||
    "$python" train.py $experiment dataset.root="$root" protocol=published "$@" \
      seed="$seed" dataset.split_seed="$seed" hydra.run.dir="$folder"
  [ -f "results/tin100_short/$name/seed$seed.json" ] || "$python" -m drolt_pl keep "$folder" --as "tin100_short/$name/seed$seed"
}
class="loss.likelihood=class loss.mixing=added"
authors="schedule.stages.joint.trainable=[backbone] +objectives.dro_lt.criterion._target_=drolt_pl.losses.FrequencyWeighted"
for seed in ${SEEDS:-0 1 2}; do
  for method in ce balanced_softmax ldam_drw bcl ride sade crt; do run $method "$seed" method=$method; done
  shared=init_from=outputs/tin100_short/crt/seed$seed:ce_warmup # 30 epochs of cross-entropy
  run lws "$seed" method=lws schedule.stages.rebalance.lr=0.02 "$shared"
  joint() { run "$1" "$seed" method=dro_lt "${@:2}" "$shared"; }
  joint dro_lt
  joint control loss.ce_weight=1
  joint dro_lt_added loss.mixing=added
  # shellcheck disable=SC2086
  { joint dro_lt_class $class && joint dro_lt_class_prior $class loss.prior=train; }
  for mode in zero learned coverage; do joint dro_lt_$mode loss.eps_mode=$mode; done
  joint dro_lt_aa augment=autoaugment
  joint control_aa augment=autoaugment loss.ce_weight=1
  # shellcheck disable=SC2086
  { joint authors $authors && joint authors_control $authors loss.ce_weight=1; }
done
[[ " ${SEEDS:-0 1 2} " == *" 0 "* ]] || exit 0
for method in proco paco gpaco sam mislas mixup_drw ldam cb_focal reweight supcon; do run $method 0 method=$method; done
