#!/usr/bin/env bash
# Evaluates the released checkpoint, AtomMem-8B, as it was trained: preset="released", vLLM for the policy and for embeddings, both on
# one GPU of 40 GB or more.   usage: benchmarks/released.sh CHECKPOINT RECORDS TEMPLATE OUT [atommem eval options]
#   CHECKPOINT  folder of the weights, or their name on the hub
#   RECORDS     hotpot_dev_distractor_v1.json
#   TEMPLATE    the released prompt as a Jinja2 file; docs/llm_agents.md says what is in it
#   EPISODES    100; DOCS 200: documents an episode
set -euo pipefail
checkpoint=${1:?usage: benchmarks/released.sh CHECKPOINT RECORDS TEMPLATE OUT [atommem eval options]}
records=${2:?records, such as hotpot_dev_distractor_v1.json} template=${3:?a prompt template} out=${4:?folder for what comes out}
shift 4
mkdir -p "$out"
# A text of the memory is at most a reply, 4,096 tokens.
export ATOMMEM_OUT=$out EMBEDDING_MODEL=${EMBEDDING_MODEL:-Qwen/Qwen3-Embedding-0.6B} EMBEDDING_TOKENS=${EMBEDDING_TOKENS:-8192}
. "$(dirname "${BASH_SOURCE[0]}")/../verl_configs/launch/embedding_server.sh"
start_embedding_server
port=${PORT:-8000}
vllm serve "$checkpoint" --served-model-name AtomMem-8B --port "$port" --max-model-len 16384 --gpu-memory-utilization 0.85 \
  >"$out/policy.log" 2>&1 &
policy=$!
stop() {
  kill "$policy" 2>/dev/null || true
  wait "$policy" 2>/dev/null || true
  stop_embedding_server
}
trap stop EXIT
waited=0
until answers "http://127.0.0.1:$port/v1/models"; do
  if ! kill -0 "$policy" 2>/dev/null || [ "$waited" -ge 1200 ]; then
    echo "the policy's server does not answer; the end of $out/policy.log:" >&2
    tail -n 30 "$out/policy.log" >&2
    exit 1
  fi
  sleep 2
  waited=$((waited + 2))
done
atommem eval HotpotQA --source "HotpotQA=$records" --docs "${DOCS:-200}" --episodes "${EPISODES:-100}" \
  --set preset=released split=validation "tokenizer=$checkpoint" "embedder=$ATOMMEM_EMBEDDER" \
  --agent crud --option "template=$template" max_tokens=4096 temperature=0 \
  --model "http://127.0.0.1:$port/v1" --model-name AtomMem-8B -o "$out" "$@"
