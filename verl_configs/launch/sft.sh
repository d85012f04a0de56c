#!/usr/bin/env bash
# Supervised fine-tuning with veRL on this node.   usage: launch/sft.sh [CONFIG] [veRL overrides]
#   ATOMMEM_SFT    folder of train.parquet and dev.parquet (atommem export --format verl)
#   ATOMMEM_OUT    folder for checkpoints; a run that was stopped goes on from there
#   ATOMMEM_MODEL  folder or hub name; by default the configuration's
#   GPUS           8 by default
set -euo pipefail
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=${1:-sft_qwen3_8b}
[ $# -eq 0 ] || shift
: "${ATOMMEM_SFT:?folder of train.parquet and dev.parquet, see atommem export}" "${ATOMMEM_OUT:?folder for what comes out}"
export ATOMMEM_SFT ATOMMEM_OUT
mkdir -p "$ATOMMEM_OUT"
gpus=${GPUS:-8}
python "$configs/launch/preflight.py" --gpus "$gpus" --gpu-gib 70 --host-gib 100 \
  --files "$ATOMMEM_SFT/train.parquet" "$ATOMMEM_SFT/dev.parquet"
exec torchrun --standalone --nproc_per_node="$gpus" -m verl.trainer.sft_trainer \
  --config-dir "$configs" --config-name "$config" trainer.n_gpus_per_node="$gpus" "$@"
