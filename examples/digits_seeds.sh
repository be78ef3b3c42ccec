#!/usr/bin/env bash
# The README's table: the digits recipe and its two controls on ten seeds of weights and splits, kept under results/.
#   PYTHON=.venv/bin/python examples/digits_seeds.sh        about ten minutes on two cores
set -euo pipefail
python="${PYTHON:-python}"
run() {  # key, name, seed, overrides
  local key=$1 name=$2 seed=$3
  shift 3
  [ -f "outputs/digits/$key/seed$seed/results.json" ] ||
    "$python" train.py trainer=cpu seed="$seed" dataset.split_seed="$seed" name="'$name'" "$@" \
      hydra.run.dir="outputs/digits/$key/seed$seed"
  [ -f "results/digits/$key/seed$seed.json" ] ||
    "$python" -m drolt_pl keep "outputs/digits/$key/seed$seed" --as "digits/$key/seed$seed"
}
for seed in 0 1 2 3 4 5 6 7 8 9; do
  run dro_lt "DRO-LT" "$seed"
  run control_rebalance "control - CE, then balanced classifier" "$seed" "~schedule.stages.joint"
  run control_no_robust "control - same stages without the robust loss" "$seed" loss.ce_weight=1
done
