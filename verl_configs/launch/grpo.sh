#!/usr/bin/env bash
# GRPO with veRL.   usage: launch/grpo.sh CONFIG [veRL overrides]
#   CONFIG            grpo_qwen3_8b, grpo_qwen3_8b_multinode or grpo_qwen3_0.6b_1gpu
#   ATOMMEM_DATA      folder of train.parquet and validation.parquet (atommem data verl)
#   ATOMMEM_OUT       folder for checkpoints, sessions.jsonl and metrics; a run that was stopped goes on from there
#   ATOMMEM_MODEL     folder or hub name; by default the configuration's
#   ATOMMEM_EMBEDDER  hashing (default), minilm, or http://host:port/v1 of a server that runs already
#   EMBEDDING_MODEL   e.g. Qwen/Qwen3-Embedding-0.6B: a vLLM server for it is started here and stopped at the end
#   ATOMMEM_STORE     milvus (default: embedded, one a worker), numpy, or http://host:19530
# For several nodes: `ray start --head` here and `ray start --address=HEAD:6379` on the others first; set ATOMMEM_NODES;
# data, model and (if local) sources must be at the same path on every node.
set -euo pipefail
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=${1:?usage: launch/grpo.sh CONFIG [veRL overrides]}
shift
: "${ATOMMEM_DATA:?folder of train.parquet and validation.parquet, see atommem data verl}" "${ATOMMEM_OUT:?folder for what comes out}"
mkdir -p "$ATOMMEM_OUT"
export ATOMMEM_DATA ATOMMEM_OUT
export ATOMMEM_AGENT_LOOP=${ATOMMEM_AGENT_LOOP:-$configs/agent_loop.yaml}
export ATOMMEM_SESSIONS=${ATOMMEM_SESSIONS:-$ATOMMEM_OUT/sessions.jsonl}
# veRL begins this file anew at every start.
export VERL_FILE_LOGGER_PATH=${VERL_FILE_LOGGER_PATH:-$ATOMMEM_OUT/metrics-$(date -u +%Y%m%dT%H%M%SZ).jsonl}

urls=()
if [ -n "${EMBEDDING_MODEL:-}" ]; then
  port=${EMBEDDING_PORT:-8001}
  CUDA_VISIBLE_DEVICES=${EMBEDDING_GPU:-0} vllm serve "$EMBEDDING_MODEL" --runner pooling --port "$port" \
    --gpu-memory-utilization "${EMBEDDING_MEMORY:-0.05}" >"$ATOMMEM_OUT/embedding.log" 2>&1 &
  server=$!
  trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
  export ATOMMEM_EMBEDDER=http://${EMBEDDING_HOST:-$(hostname -i | cut -d" " -f1)}:$port/v1
fi
case ${ATOMMEM_EMBEDDER:-} in http*) urls+=("${ATOMMEM_EMBEDDER%/}/models") ;; esac

case $config in
  *8b_multinode)
    need=(--gpus 8 --gpu-gib 70 --host-gib 250)
    python - "${ATOMMEM_NODES:-4}" <<'PY'
import sys
import time

import ray

ray.init(address="auto", logging_level="ERROR")
wanted, deadline = int(sys.argv[1]), time.monotonic() + 600
while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"only {alive} of {wanted} Ray nodes after 10 minutes; `ray status` tells which")
    time.sleep(5)
print(f"{alive} Ray nodes")
PY
    ;;
  *8b) need=(--gpus 8 --gpu-gib 70 --host-gib 250) ;;
  *) need=(--gpus 1 --gpu-gib 20 --host-gib 30) ;;
esac
python "$configs/launch/preflight.py" "${need[@]}" \
  --files "$ATOMMEM_DATA/train.parquet" "$ATOMMEM_DATA/validation.parquet" "$ATOMMEM_AGENT_LOOP" \
  --urls ${urls[@]+"${urls[@]}"}
python -m verl.trainer.main_ppo --config-dir "$configs" --config-name "$config" "$@"
