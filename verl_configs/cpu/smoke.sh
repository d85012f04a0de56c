#!/usr/bin/env bash
# Real veRL and real vLLM on this machine's CPU: oracle traces, SFT, then GRPO of a tiny Qwen3.   usage: smoke.sh FOLDER
#   ATOMMEM_SFT_STEPS  optimizer steps of SFT (20)
#   ATOMMEM_STEPS      training steps of GRPO (2)
#   ATOMMEM_PATIENCE   seconds for SFT and for GRPO each (900); veRL hangs if weights cannot be loaded
set -euo pipefail
out=${1:?usage: smoke.sh FOLDER}
mkdir -p "$out"
out=$(cd "$out" && pwd)
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$configs/cpu/environment.sh"
cd "$out"
rm -rf eval sft data model sft_checkpoints sessions.jsonl sft.jsonl grpo.jsonl
task=(chunk_tokens=120 store=numpy scratchpad=false max_reads_per_question=1)
export ATOMMEM_SFT=$out/sft ATOMMEM_DATA=$out/data ATOMMEM_OUT=$out ATOMMEM_MODEL=$out/model
export ATOMMEM_SFT_STEPS=${ATOMMEM_SFT_STEPS:-20} ATOMMEM_STEPS=${ATOMMEM_STEPS:-2} ATOMMEM_SESSIONS=$out/sessions.jsonl
patience=${ATOMMEM_PATIENCE:-900}

atommem eval Synthetic --docs 5 --agent oracle --episodes 60 --set "${task[@]}" -o eval >eval.log
atommem export eval/traces.jsonl -o sft --format verl >export.log
atommem data verl Synthetic -o data --train 64 --validation 8 --set num_docs=5 "${task[@]}"
python -m atommem_verl_cpu.tiny_model model --texts sft/train.parquet

echo "SFT, $ATOMMEM_SFT_STEPS steps"
OMP_NUM_THREADS=1 VERL_FILE_LOGGER_PATH=$out/sft.jsonl timeout -k 20 "$patience" \
  torchrun --standalone --nproc_per_node=2 -m verl.trainer.sft_trainer --config-dir "$configs" --config-name cpu_sft \
  >sft.log 2>&1 || { tail -n 40 sft.log; exit 1; }
ATOMMEM_MODEL=$out/sft_checkpoints/global_step_$ATOMMEM_SFT_STEPS/huggingface

echo "GRPO, $ATOMMEM_STEPS steps"
VERL_FILE_LOGGER_PATH=$out/grpo.jsonl timeout -k 20 "$patience" \
  python -m verl.trainer.main_ppo --config-dir "$configs" --config-name cpu_smoke >grpo.log 2>&1 ||
  { tail -n 60 grpo.log; exit 1; }
python -m atommem_verl_cpu.check "$out" --steps "$ATOMMEM_STEPS" --sessions-a-step 16 --sft --config cpu_smoke
