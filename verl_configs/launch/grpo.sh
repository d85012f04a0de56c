#!/usr/bin/env bash
# GRPO with veRL.   usage: launch/grpo.sh CONFIG [veRL overrides]
#   CONFIG            grpo_qwen3_8b, grpo_qwen3_8b_multinode or grpo_qwen3_0.6b_1gpu
#   ATOMMEM_DATA      folder of train.parquet and validation.parquet (atommem data verl)
#   ATOMMEM_OUT       folder for checkpoints, sessions.jsonl and metrics; a run that was stopped goes on from there
#   ATOMMEM_MODEL     folder or hub name; by default the configuration's
#   ATOMMEM_UPDATES   optimizer updates a training step (1)
#   ATOMMEM_EMBEDDER  hashing (default), minilm, or http://host:port/v1 of a server that runs already
#   EMBEDDING_MODEL   e.g. Qwen/Qwen3-Embedding-0.6B: a vLLM server for it is started here (embedding_server.sh) and stopped at the end
#   ATOMMEM_TEMPLATE  a prompt template (Jinja2) in place of the dialect's, or shared_prefix
#   ATOMMEM_STORE     milvus (default: embedded, one a worker), numpy, or http://host:19530
# For several nodes: `ray start --head` here and `ray start --address=HEAD:6379` on the others first; set ATOMMEM_NODES. Workers
# on all nodes are told these settings and those of veRL, vLLM and Hugging Face (worker_environment.py). ATOMMEM_OUT,
# ATOMMEM_DATA, the model and local sources must be at the same path on every node, on a shared disk.
set -euo pipefail
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
configs=$(dirname "$launch")
config=${1:?usage: launch/grpo.sh CONFIG [veRL overrides]}
shift
: "${ATOMMEM_DATA:?folder of train.parquet and validation.parquet, see atommem data verl}" "${ATOMMEM_OUT:?folder for what comes out}"
mkdir -p "$ATOMMEM_OUT"
# Workers have working directories of their own.
ATOMMEM_OUT=$(cd "$ATOMMEM_OUT" && pwd)
ATOMMEM_DATA=$(cd "$ATOMMEM_DATA" && pwd)
if [ -d "${ATOMMEM_MODEL:-}" ]; then ATOMMEM_MODEL=$(cd "$ATOMMEM_MODEL" && pwd); export ATOMMEM_MODEL; fi
started=$(date -u +%Y%m%dT%H%M%SZ)
export ATOMMEM_DATA ATOMMEM_OUT ATOMMEM_RUN=${ATOMMEM_RUN:-$started}
export ATOMMEM_AGENT_LOOP=${ATOMMEM_AGENT_LOOP:-$configs/agent_loop.yaml} ATOMMEM_STORE=${ATOMMEM_STORE:-milvus}
case ${ATOMMEM_TEMPLATE:-} in "" | shared_prefix) ;; *) ATOMMEM_TEMPLATE=$(realpath "$ATOMMEM_TEMPLATE") ;; esac
export ATOMMEM_TEMPLATE=${ATOMMEM_TEMPLATE:-}
export ATOMMEM_SESSIONS=${ATOMMEM_SESSIONS:-$ATOMMEM_OUT/sessions.jsonl}
# veRL begins this file anew at every start.
export VERL_FILE_LOGGER_PATH=${VERL_FILE_LOGGER_PATH:-$ATOMMEM_OUT/metrics-$started.jsonl}

. "$launch/embedding_server.sh"
run=()
if [ -n "${EMBEDDING_MODEL:-}" ]; then
  start_embedding_server
  run=(with_embedding_server)
fi
export ATOMMEM_EMBEDDER=${ATOMMEM_EMBEDDER:-hashing}
servers=()
case $ATOMMEM_EMBEDDER in http*) servers=(--url "${ATOMMEM_EMBEDDER%/}/models") ;; esac

case $config in *multinode) python "$launch/ray_nodes.py" "${ATOMMEM_NODES:-4}" ;; esac
ATOMMEM_MINI_BATCH=${ATOMMEM_MINI_BATCH:-$(python "$launch/training_numbers.py" "$config" --data "$ATOMMEM_DATA" --mini-batch "$@")}
export ATOMMEM_MINI_BATCH
python "$launch/preflight.py" "$config" --data "$ATOMMEM_DATA" --out "$ATOMMEM_OUT" --file "$ATOMMEM_AGENT_LOOP" \
  ${servers[@]+"${servers[@]}"} "$@"
mapfile -d '' settings < <(python "$launch/worker_environment.py")
${run[@]+"${run[@]}"} python -m verl.trainer.main_ppo --config-dir "$configs" --config-name "$config" "${settings[@]}" "$@"
