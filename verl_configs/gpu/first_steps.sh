#!/usr/bin/env bash
# Two steps of GRPO from an unmodified model on one GPU, and a table of memory, tokens a second, probabilities, weight sync and cache
# hits. At most 8 minutes.   usage: gpu/first_steps.sh OUT [veRL overrides]
#   ATOMMEM_DATA      folder of gpu/prepare.sh's data
#   ATOMMEM_MODEL     folder of the model (benchmarks/smollm2.py)
#   ATOMMEM_PATIENCE  seconds after which it is ended (470)
# What is in OUT is small: logs, the table (table.md), and no checkpoint.
set -euo pipefail
out=${1:?usage: gpu/first_steps.sh OUT [veRL overrides]}
shift
: "${ATOMMEM_DATA:?folder of data, see gpu/prepare.sh}" "${ATOMMEM_MODEL:?folder of the model, see benchmarks/smollm2.py}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/sessions.jsonl "$out"/metrics.jsonl
export ATOMMEM_OUT=$out ATOMMEM_STEPS=${ATOMMEM_STEPS:-2} ATOMMEM_STORE=${ATOMMEM_STORE:-numpy}
export VERL_FILE_LOGGER_PATH=$out/metrics.jsonl VLLM_LOGGING_LEVEL=INFO VLLM_LOG_STATS_INTERVAL=1
status=0
timeout -k 10 "${ATOMMEM_PATIENCE:-470}" "$here/../launch/grpo.sh" grpo_smollm2_1gpu "$@" >"$out/grpo.log" 2>&1 || status=$?
[ $status -eq 0 ] || tail -n 60 "$out/grpo.log"
python "$here/report.py" "$out" | tee "$out/table.md"
exit $status
