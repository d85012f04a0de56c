#!/usr/bin/env bash
# How fast one GPU trains, and where the time goes: a few steps of GRPO over the synthetic world; nothing is downloaded.
#   usage: measure.sh FOLDER
#   ATOMMEM_MODEL  folder or hub name of the policy; by default a Qwen3 with random weights, of 0.28 billion parameters
#   ATOMMEM_STEPS  training steps (4); the first one is left out of the figures
set -euo pipefail
out=${1:?usage: measure.sh FOLDER}
mkdir -p "$out"
out=$(cd "$out" && pwd)
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export ATOMMEM_DATA=$out/data ATOMMEM_OUT=$out ATOMMEM_STORE=${ATOMMEM_STORE:-numpy} VERL_FILE_LOGGER_PATH=$out/metrics.jsonl
atommem data verl Synthetic -o "$ATOMMEM_DATA" --train 64 --validation 8 --set num_docs=100 chunk_tokens=1000
if [ -z "${ATOMMEM_MODEL:-}" ]; then
  export ATOMMEM_MODEL=$out/model
  PYTHONPATH="$launch/../cpu" python -m atommem_verl_cpu.tiny_model "$ATOMMEM_MODEL" \
    --hidden 1024 --layers 28 --context 8192
fi
"$launch/grpo.sh" grpo_qwen3_0.6b_1gpu trainer.total_training_steps="${ATOMMEM_STEPS:-4}" \
  trainer.val_before_train=false trainer.test_freq=-1 trainer.save_freq=-1 trainer.resume_mode=disable
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader
python "$launch/throughput.py" "$VERL_FILE_LOGGER_PATH"
