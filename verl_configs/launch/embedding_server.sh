# Sourced by grpo.sh: a vLLM server for EMBEDDING_MODEL on this node, with memory of an absolute size, and a watch over it.
#   EMBEDDING_PORT    8001
#   EMBEDDING_GPU     0
#   EMBEDDING_HOST    under what name other nodes reach this one; by default the address that a route to them has
#   EMBEDDING_TOKENS  tokens of a text at most (2048)
#   EMBEDDING_CACHE   bytes of its KV cache (1G); one text of 2,048 tokens takes 224 MiB with Qwen3-Embedding-0.6B

# The address of the interface that leads out of the machine; `hostname -i` is often 127.0.0.1.
own_address() { python -c 'import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
        probe.connect(("192.0.2.1", 9))
        print(probe.getsockname()[0])
    except OSError:
        print("127.0.0.1")'; }

answers() { python -c 'import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=5)' "$1" 2>/dev/null; }

start_embedding_server() {
  embedding_log=$ATOMMEM_OUT/embedding.log
  local port=${EMBEDDING_PORT:-8001}
  # shellcheck disable=SC2086  # EMBEDDING_OPTIONS are several words
  CUDA_VISIBLE_DEVICES=${EMBEDDING_GPU:-0} vllm serve "$EMBEDDING_MODEL" --runner pooling --host 0.0.0.0 --port "$port" \
    --max-model-len "${EMBEDDING_TOKENS:-2048}" --kv-cache-memory-bytes "${EMBEDDING_CACHE:-1G}" \
    --gpu-memory-utilization 0.05 --enforce-eager ${EMBEDDING_OPTIONS:-} >"$embedding_log" 2>&1 &
  embedding_server=$!
  trap stop_embedding_server EXIT
  ATOMMEM_EMBEDDER=http://${EMBEDDING_HOST:-$(own_address)}:$port/v1
  export ATOMMEM_EMBEDDER
  local waited=0
  until answers "$ATOMMEM_EMBEDDER/models"; do
    if ! kill -0 "$embedding_server" 2>/dev/null; then
      echo "the embedding server has ended; the end of $embedding_log:" >&2
      tail -n 30 "$embedding_log" >&2
      exit 1
    fi
    if [ "$waited" -ge "${EMBEDDING_PATIENCE:-600}" ]; then
      echo "the embedding server does not answer at $ATOMMEM_EMBEDDER after $waited s; the end of $embedding_log:" >&2
      tail -n 30 "$embedding_log" >&2
      exit 1
    fi
    [ $((waited % 30)) -ne 0 ] || echo "waiting for the embedding server, $waited s ($embedding_log)"
    sleep 2
    waited=$((waited + 2))
  done
  echo "embedding server at $ATOMMEM_EMBEDDER"
}

stop_embedding_server() {
  kill "$embedding_server" 2>/dev/null || true
  wait "$embedding_server" 2>/dev/null || true
}

# with_embedding_server COMMAND…: runs it, and ends it if the server ends first.
with_embedding_server() {
  "$@" &
  local training=$! status=0
  trap 'kill "$training" 2>/dev/null || true' INT TERM
  wait -n "$training" "$embedding_server" || status=$?
  if ! kill -0 "$embedding_server" 2>/dev/null && kill -0 "$training" 2>/dev/null; then
    echo "the embedding server has ended, and so does the training; the end of $embedding_log:" >&2
    tail -n 30 "$embedding_log" >&2
    kill "$training" 2>/dev/null || true
    wait "$training" || true
    return 1
  fi
  return "$status"
}
