# Sourced by the scripts of this folder: what every process of a training run without an accelerator is told.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
export VERL_PLATFORM=cpu VERL_USE_EXTERNAL_MODULES=atommem_verl_cpu.platform VERL_ENGINE_DEVICE=cuda
export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} VLLM_CPU_OMP_THREADS_BIND=${VLLM_CPU_OMP_THREADS_BIND:-auto}
# Compiling costs more than so small a model can save.
export TORCH_COMPILE_DISABLE=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 WANDB_MODE=disabled VLLM_NO_USAGE_STATS=1 RAY_USAGE_STATS_ENABLED=0
export ATOMMEM_AGENT_LOOP=${ATOMMEM_AGENT_LOOP:-$here/agent_loop.yaml}
export ATOMMEM_STORE=${ATOMMEM_STORE:-numpy} ATOMMEM_EMBEDDER=${ATOMMEM_EMBEDDER:-hashing}
export ATOMMEM_TEMPLATE=${ATOMMEM_TEMPLATE:-}
export ATOMMEM_RUN=${ATOMMEM_RUN:-$(date -u +%Y%m%dT%H%M%SZ)}
