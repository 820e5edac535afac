#!/usr/bin/env bash
# The main job on a folder of colour photos, one folder per class: 6 classes of 40 patches cut from scikit-learn's two sample
# photos in three tints, so that both what is seen and its colour matter.
#   bash benchmarks/image_folder.sh FOLDER [more flags of `run`]        (about four minutes on 2 CPU cores)
set -euo pipefail
folder=$1
shift
"${PYTHON:-python}" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

TINTS, PATCHES, SIDE = {"plain": 0, "green": 85, "blue": 170}, 40, 96
random = np.random.default_rng(0)
for photo in ("china", "flower"):
    pixels = load_sample_image(f"{photo}.jpg")
    for tint, shift in TINTS.items():
        place = Path(sys.argv[1]) / f"{photo}_{tint}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(PATCHES):
            top, left = (int(random.integers(0, side - SIDE)) for side in pixels.shape[:2])
            hue, *others = Image.fromarray(pixels[top : top + SIDE, left : left + SIDE]).convert("HSV").split()
            turned = hue.point([(value + shift) % 256 for value in range(256)])
            Image.merge("HSV", (turned, *others)).convert("RGB").save(place / f"{number:02d}.png")
PYTHON
"${PYTHON:-python}" -m tune_btxrd run --data "$folder" --positive-class flower_blue --no-pretrained \
  --backbone test_efficientnet --image-size 48 --batch-size 16 --trials 8 --epochs 12 --confirm 1 --name image_folder "$@"
