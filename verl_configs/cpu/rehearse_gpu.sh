#!/usr/bin/env bash
# Rehearses gpu/prepare.sh, gpu/first_steps.sh and gpu/learn.sh without an accelerator, with a small model.   usage: rehearse_gpu.sh FOLDER
#   ATOMMEM_MODEL  folder of a model; by default a tiny Qwen3 with random weights is made
#   PARTS          "first learn": which of the two commands
set -euo pipefail
out=${1:?usage: rehearse_gpu.sh FOLDER}
mkdir -p "$out"
out=$(cd "$out" && pwd)
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$configs/cpu/environment.sh"
export ATOMMEM_AGENT_LOOP=$configs/agent_loop.yaml
ATOMMEM_EPISODES=${ATOMMEM_EPISODES:-100} ATOMMEM_TRAIN=64 ATOMMEM_VALIDATION=${ATOMMEM_VALIDATION:-8} "$configs/gpu/prepare.sh" "$out"
export ATOMMEM_DATA=$out/data ATOMMEM_SFT=$out/sft
if [ -z "${ATOMMEM_MODEL:-}" ]; then
  export ATOMMEM_MODEL=$out/model
  python -m atommem_verl_cpu.tiny_model "$ATOMMEM_MODEL" --texts "$out/sft/train.parquet"
fi
smaller=(+device=cpu data.train_batch_size=2 actor_rollout_ref.rollout.n=2 data.max_response_length=48 actor_rollout_ref.rollout.agent.num_workers=1
  actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes="${BUCKET_MB:-64}" reward.num_workers=1
  transfer_queue.backend.SimpleStorage.num_data_storage_units=1)
for part in ${PARTS:-first learn}; do
  case $part in
    first) ATOMMEM_PATIENCE=${ATOMMEM_PATIENCE:-1200} "$configs/gpu/first_steps.sh" "$out/first" "${smaller[@]}" ;;
    learn)
      SFT_OVERRIDES="+device/sft=cpu data.train_batch_size=8 optim.lr=1e-3" ATOMMEM_SFT_STEPS=${ATOMMEM_SFT_STEPS:-10} HOST_GIB=4 \
        ATOMMEM_SECONDS=${ATOMMEM_SECONDS:-2400} ATOMMEM_STEPS=${ATOMMEM_STEPS:-2} ATOMMEM_TEST_EVERY=1 \
        "$configs/gpu/learn.sh" "$out/learn" "${smaller[@]}"
      ;;
    *) echo "PARTS holds $part; it may hold first and learn" >&2; exit 1 ;;
  esac
done
