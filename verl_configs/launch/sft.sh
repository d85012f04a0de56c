#!/usr/bin/env bash
# Supervised fine-tuning with veRL on this node.   usage: launch/sft.sh [CONFIG] [veRL overrides]
#   ATOMMEM_SFT    folder of train.parquet and dev.parquet (atommem export --format verl)
#   ATOMMEM_OUT    folder for checkpoints; a run that was stopped goes on from there
#   ATOMMEM_MODEL  folder or hub name; by default the configuration's
#   GPUS           8 by default; GPU_GIB (70) and HOST_GIB (100): memory that must be free on each and on the machine
#   attention/sft=flash as an override packs sequences, where flash-attn is installed
set -euo pipefail
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=${1:-sft_qwen3_8b}
[ $# -eq 0 ] || shift
: "${ATOMMEM_SFT:?folder of train.parquet and dev.parquet, see atommem export}" "${ATOMMEM_OUT:?folder for what comes out}"
mkdir -p "$ATOMMEM_OUT"
ATOMMEM_SFT=$(cd "$ATOMMEM_SFT" && pwd)
ATOMMEM_OUT=$(cd "$ATOMMEM_OUT" && pwd)
export ATOMMEM_SFT ATOMMEM_OUT
gpus=${GPUS:-8}
cards=$gpus
case " $* " in *device/sft=cpu*) cards=0 ;; esac
python "$configs/launch/preflight.py" --gpus "$cards" --gpu-gib "${GPU_GIB:-70}" --host-gib "${HOST_GIB:-100}" \
  --file "$ATOMMEM_SFT/train.parquet" --file "$ATOMMEM_SFT/dev.parquet"
exec torchrun --standalone --nproc_per_node="$gpus" -m verl.trainer.sft_trainer \
  --config-dir "$configs" --config-name "$config" trainer.n_gpus_per_node="$gpus" "$@"
