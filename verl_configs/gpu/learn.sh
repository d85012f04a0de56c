#!/usr/bin/env bash
# Supervised fine-tuning on one GPU, then as many steps of GRPO as fit: held-out items before and after, the operations over time,
# and what Update is worth to the same weights.   usage: gpu/learn.sh OUT [veRL overrides of GRPO]
#   ATOMMEM_DATA, ATOMMEM_SFT  folders of gpu/prepare.sh
#   ATOMMEM_MODEL              folder of the model (benchmarks/smollm2.py)
#   ATOMMEM_SECONDS            for all of it (470); when they are over, what was validated last counts
#   ATOMMEM_SFT_STEPS          optimizer steps of 64 rows (60)
#   ATOMMEM_TEST_EVERY         training steps from one validation to the next (5)
#   SFT_OVERRIDES              for veRL's SFT, separated by spaces
# What is worth keeping in OUT is small: logs and the table (table.md). sft_checkpoints holds the model after SFT.
set -euo pipefail
out=${1:?usage: gpu/learn.sh OUT [veRL overrides of GRPO]}
shift
: "${ATOMMEM_DATA:?folder of data, see gpu/prepare.sh}" "${ATOMMEM_SFT:?folder of demonstrations, see gpu/prepare.sh}"
: "${ATOMMEM_MODEL:?folder of the model, see benchmarks/smollm2.py}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -rf "$out"/sessions.jsonl "$out"/metrics.jsonl "$out/sft_checkpoints"
steps=${ATOMMEM_SFT_STEPS:-60}
# Seconds that are left, but those for the end and the table.
left() { echo $((${ATOMMEM_SECONDS:-470} - SECONDS - 15)); }
read -r -a sft_overrides <<<"${SFT_OVERRIDES:-}"
status=0
ATOMMEM_OUT=$out GPUS=1 GPU_GIB=${GPU_GIB:-10} HOST_GIB=${HOST_GIB:-10} VERL_FILE_LOGGER_PATH=$out/sft.jsonl \
  timeout -k 10 "$(left)" "$here/../launch/sft.sh" sft_qwen3_8b data.train_batch_size=64 data.max_length=1600 \
  optim.lr=1e-4 model.enable_gradient_checkpointing=false "checkpoint.save_contents=[model,hf_model]" \
  "checkpoint.load_contents=[model]" trainer.total_training_steps="$steps" trainer.save_freq="$steps" trainer.test_freq=-1 \
  trainer.total_epochs=100 trainer.resume_mode=disable ${sft_overrides[@]+"${sft_overrides[@]}"} \
  >"$out/sft.log" 2>&1 || status=$?
if [ $status -ne 0 ]; then
  tail -n 60 "$out/sft.log"
  exit $status
fi
echo "SFT took $SECONDS s"
export ATOMMEM_MODEL=$out/sft_checkpoints/global_step_$steps/huggingface ATOMMEM_OUT=$out
export ATOMMEM_STEPS=${ATOMMEM_STEPS:-1000} ATOMMEM_TEST_EVERY=${ATOMMEM_TEST_EVERY:-5} ATOMMEM_VALIDATE=true
export ATOMMEM_STORE=${ATOMMEM_STORE:-numpy}
export VERL_FILE_LOGGER_PATH=$out/metrics.jsonl VLLM_LOGGING_LEVEL=INFO VLLM_LOG_STATS_INTERVAL=1
timeout -k 10 "$(left)" "$here/../launch/grpo.sh" grpo_smollm2_1gpu "$@" >"$out/grpo.log" 2>&1 || status=$?
# Ended by the clock is how it is meant to end.
[ $status -ne 124 ] || status=0
[ $status -eq 0 ] || tail -n 60 "$out/grpo.log"
python "$here/report.py" "$out" --held-out | tee "$out/table.md"
exit $status
