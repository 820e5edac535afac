#!/usr/bin/env bash
# From a folder in BTXRD layout to numbers and files that others can use: every verb that delivers, one after the other.
#   bash benchmarks/deliver.sh DATA WEIGHTS [more flags of `run`]
set -euo pipefail
data=$1 weights=$2
shift 2
name=deliver-$(date +%Y%m%d-%H%M%S)
verb() { "${PYTHON:-python}" -m tune_btxrd "$@"; }
verb search --data "$data" --weights "$weights" --name "$name" "$@"
verb retrain "$name"
verb evaluate "$name" --yes
verb export "$name"
for format in "best_stratified.pt" "stratified/export/timm" "stratified/export/model.onnx"; do
  verb predict "checkpoints/$name/$format" "$data/images" --format csv --output "predictions-$(basename "$format").csv"
done
verb report "$name"
"${PYTHON:-python}" - <<'PYTHON'
import pandas as pd

pt, *others = (pd.read_csv(f"predictions-{name}.csv") for name in ("best_stratified.pt", "timm", "model.onnx"))
for name, table in zip(("local-dir:", "ONNX"), others, strict=True):
    numbers = pt.select_dtypes("number")
    print(f"{name} against .pt on {len(pt)} images: largest difference {(table[numbers.columns] - numbers).abs().max().max():.1e}")
PYTHON
