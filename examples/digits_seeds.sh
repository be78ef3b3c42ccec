#!/usr/bin/env bash
# The README's table: the digits recipe and its two controls on ten seeds of weights and splits, kept under results/.
#   PYTHON=.venv/bin/python examples/digits_seeds.sh        about ten minutes on two cores
set -euo pipefail
python="${PYTHON:-python}"
run() {  # name, seed, overrides
  local name=$1 seed=$2 folder="outputs/digits/$1/seed$2"
  shift 2
  [ -f "$folder/results.json" ] ||
    "$python" train.py trainer=cpu seed="$seed" dataset.split_seed="$seed" "name='$name'" "$@" hydra.run.dir="'$folder'"
  "$python" -m drolt_pl keep "$folder" --as "digits/${name// /_}/seed$seed"
}
for seed in 0 1 2 3 4 5 6 7 8 9; do
  run "DRO-LT" "$seed"
  run "control - CE, then balanced classifier" "$seed" "~schedule.stages.joint"
  run "control - same stages without the robust loss" "$seed" loss.ce_weight=1
done
