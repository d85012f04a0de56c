#!/usr/bin/env bash
# Real veRL and real vLLM on this machine's CPU until the reward rises: SFT of a tiny Qwen3 on oracle traces of short
# streams, then GRPO on longer ones, a run a seed. Started again, it goes on with what is missing.
#   usage: learn.sh FOLDER SEED...
#   ATOMMEM_SFT_STEPS  optimizer steps of SFT (400)
#   ATOMMEM_STEPS      training steps of GRPO a seed (60)
#   ATOMMEM_PATIENCE   seconds for SFT and for each seed (1800); veRL hangs if weights cannot be loaded
set -euo pipefail
out=${1:?usage: learn.sh FOLDER SEED...}
shift
mkdir -p "$out"
out=$(cd "$out" && pwd)
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export ATOMMEM_AGENT_LOOP=$configs/agent_loop.yaml ATOMMEM_TEMPLATE=$configs/cpu/ledger.j2
. "$configs/cpu/environment.sh"
cd "$out"
export ATOMMEM_SFT=$out/sft ATOMMEM_DATA=$out/data ATOMMEM_SFT_STEPS=${ATOMMEM_SFT_STEPS:-400}
export ATOMMEM_STEPS=${ATOMMEM_STEPS:-60} ATOMMEM_TEST_EVERY=${ATOMMEM_TEST_EVERY:-20}
patience=${ATOMMEM_PATIENCE:-1800}
common=(scratchpad=false max_reads_per_question=1 template="$configs/cpu/ledger.j2")
start=$out/sft_checkpoints/global_step_$ATOMMEM_SFT_STEPS/huggingface

# took FOLDER NAME SECONDS: written last, so that a file says that a part is finished.
took() { printf '{"seconds": %d, "date": "%s"}\n' "$3" "$(date -u +%F)" >"$1/$2.part" && mv "$1/$2.part" "$1/$2"; }

if [ ! -e sft.finished.json ]; then
  rm -rf short long eval sft data model sft_checkpoints
  began=$SECONDS
  python -m atommem_verl_cpu.ledger short --documents 3 --train 3000
  python -m atommem_verl_cpu.ledger long --documents 6
  # One chunk of three documents: every chunk of the demonstrations holds what is asked for.
  atommem eval HotpotQA --source HotpotQA=short/train.json --docs 3 --agent oracle --episodes 3000 \
    --set "${common[@]}" store=numpy chunk_tokens=18 -o eval >eval.log
  atommem export eval/traces.jsonl -o sft --format verl --template "$configs/cpu/ledger.j2" >export.log
  # Two chunks of three documents: one of them holds nothing of use.
  atommem data verl HotpotQA -o data --train 2048 --validation 256 \
    --set source=long/train.json num_docs=6 chunk_tokens=18 "${common[@]}" --validation-set source=long/validation.json
  python -m atommem_verl_cpu.tiny_model model --words --hidden 64 --context 256 --texts sft/train.parquet
  echo "SFT, $ATOMMEM_SFT_STEPS steps"
  ATOMMEM_MODEL=$out/model ATOMMEM_OUT=$out OMP_NUM_THREADS=1 VERL_FILE_LOGGER_PATH=$out/sft.jsonl \
    timeout -k 20 "$patience" torchrun --standalone --nproc_per_node=2 -m verl.trainer.sft_trainer \
    --config-dir "$configs" --config-name cpu_sft data.train_batch_size=128 data.micro_batch_size_per_gpu=64 \
    data.max_length=128 optim.lr_warmup_steps=50 "optim.betas=[0.9,0.98]" >sft.log 2>&1 ||
    { tail -n 40 sft.log; exit 1; }
  took "$out" sft.finished.json $((SECONDS - began))
fi

for seed in "$@"; do
  run=$out/seed_$seed
  if [ -e "$run/finished.json" ]; then continue; fi
  rm -rf "$run"
  mkdir "$run"
  began=$SECONDS
  echo "GRPO, seed $seed, $ATOMMEM_STEPS steps"
  ATOMMEM_SEED=$seed ATOMMEM_MODEL=$start ATOMMEM_OUT=$run ATOMMEM_SESSIONS=$run/sessions.jsonl \
    VERL_FILE_LOGGER_PATH=$run/grpo.jsonl timeout -k 20 "$patience" \
    python -m verl.trainer.main_ppo --config-dir "$configs" --config-name cpu_learn >"$run/grpo.log" 2>&1 ||
    { tail -n 60 "$run/grpo.log"; exit 1; }
  python -m atommem_verl_cpu.check "$run" --steps "$ATOMMEM_STEPS" --sessions-a-step 64 >"$run/check.md"
  took "$run" finished.json $((SECONDS - began))
done
