#!/usr/bin/env bash
# The README's table of TIN100-LT, kept under results/tin100_short. Needs Tiny ImageNet's first 100 classes as folders.
#   ROOT=data/tiny-imagenet-100 SEEDS="0 1 2" PYTHON=.venv/bin/python examples/tin100_table.sh
# About two hours a seed on one core in bf16; finished runs are skipped, so that it may be started again. The values of the
# second stages of cRT, LWS and DRO-LT were chosen under protocol=holdout, three configurations each: docs/fairness.md.
set -euo pipefail
python="${PYTHON:-python}" root="${ROOT:-data/tiny-imagenet-100}"
run() {  # folder, seed, overrides
  local folder=outputs/tin100_short/$1/seed$2 seed=$2 name=$1
  shift 2
  [ -f "$folder/results.json" ] ||
    "$python" train.py experiment=tin100_short dataset.root="$root" protocol=published compile=default "$@" \
      seed="$seed" dataset.split_seed="$seed" hydra.run.dir="$folder"
  [ -f "results/tin100_short/$name/seed$seed.json" ] || "$python" -m drolt_pl keep "$folder" --as "tin100_short/$name/seed$seed"
}
for seed in ${SEEDS:-0 1 2}; do
  run ce "$seed" method=ce
  run resample "$seed" method=resample
  run balanced_softmax "$seed" method=balanced_softmax
  run ldam_drw "$seed" method=ldam_drw
  run crt "$seed" method=crt
  shared=init_from=outputs/tin100_short/crt/seed$seed:ce_warmup # 30 epochs of cross-entropy
  run lws "$seed" method=lws schedule.stages.rebalance.lr=0.02 "$shared"
  run dro_lt "$seed" method=dro_lt "$shared"
  run control "$seed" method=dro_lt loss.ce_weight=1 "$shared"
done
# One seed of the rest, about four hours on one core.
[[ " ${SEEDS:-0 1 2} " == *" 0 "* ]] || exit 0
crt=init_from=outputs/tin100_short/crt/seed0:ce_warmup
for mode in zero shared learned coverage; do run "dro_lt_$mode" 0 method=dro_lt loss.eps_mode=$mode "$crt"; done
run oltr 0 method=oltr "$crt"
run balanced_softmax_lr0.2 0 method=balanced_softmax schedule.scratch.lr=0.2
run reweight_beta0.99 0 method=reweight criterion.beta=0.99
for method in mislas mixup_drw reweight bcl cb_focal supcon ssp focal ldam; do run $method 0 method=$method; done
# Classifiers that are fitted: to the same features, with what held-out images chose (results/tin100_tuning).
ce=init_from=outputs/tin100_short/ce/seed0:train args=schedule.stages.rebalance.classifier_args
run ncm 0 method=ncm "$ce"
run tau_norm 0 method=tau_norm "$args={tau:0.7}" "$ce"
run logit_adjustment_post_hoc 0 method=logit_adjustment_post_hoc "$args={tau:1.2}" "$ce"
fitted=outputs/tin100_tuning/smdragon/checkpoints/rebalance.ckpt # of method=smdragon under protocol=holdout
[ ! -f $fitted ] || run smdragon 0 method=smdragon "$args={source:$fitted}" "$ce"
