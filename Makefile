# The first use of any target makes .venv; it needs Python >= 3.10 and a package index.
PYTHON ?= python3
EXTRAS ?= test
BIN := .venv/bin

.PHONY: bridges release-check gpu-lock milvus-environment milvus pythons verl-environment verl-test verl-smoke verl-nodes verl-learn demo test lowest check lint types layers docs bench slow mutation clean

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	touch $@

demo: .venv/installed  ## watch the scripted agents read over Milvus Lite
	$(BIN)/atommem demo

test: .venv/installed  ## prove the package: tests and doctests of all that is installed
	$(BIN)/python -m pytest -n auto

check: lint types layers test  ## everything that must hold before a commit

# The lower bounds in pyproject.toml, proved: each direct dependency at its lowest version (the extras with torch aside).
.lowest/installed: pyproject.toml
	test -x .lowest/bin/python || $(PYTHON) -m venv .lowest
	.lowest/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	.lowest/bin/uv pip install --quiet --python .lowest/bin/python --resolution lowest-direct --editable ".[test,team,plots,ask]"
	touch $@

LOWEST := env vector_env vector_wrappers rooms gymnasium_forms curriculum action_space snapshot_item traces_recorder traces_files \
	traces_versions stores milvus_lite records namesakes cli eval_report ask_files golden judge team

lowest: .lowest/installed  ## two minutes of tests on the lowest versions that pyproject.toml allows, in .lowest
	.lowest/bin/python -m pytest -p no:cacheprovider -n auto $(foreach name,$(LOWEST),$(wildcard tests/*/test_$(name).py tests/*/*/test_$(name).py))

PYTHONS ?= 3.10 3.12 3.13
PYTHONS_TESTS := env vector_env rooms gymnasium_forms snapshot_item traces_recorder stores milvus_lite numpy_store records cli \
	golden time_limit drafts

pythons:  ## minutes of tests on the other versions of Python, without torch, in .pythons
	.ci/pythons $(PYTHONS) -- -q -n auto $(foreach name,$(PYTHONS_TESTS),$(wildcard tests/*/test_$(name).py tests/*/*/test_$(name).py))

RELEASE_PYTHONS ?= 3.10 3.11 3.12 3.13

release-check:  ## build sdist and wheel into dist, and try the wheel without extras on each version of Python (minutes)
	.ci/release $(RELEASE_PYTHONS)

# A standalone Milvus server comes in a wheel, without Docker (80 MB, and 260 unpacked), into an environment of its own.
.milvus/installed:
	test -x .milvus/bin/python || $(PYTHON) -m venv .milvus
	.milvus/bin/python -m pip install --quiet --disable-pip-version-check "milvus==2.3.5"
	touch $@

milvus-environment: .milvus/installed  ## a real Milvus server, in .milvus; tests/support/stores/real_milvus.py starts it

MILVUS_TESTS := $(addprefix tests/stores/test_,stores.py milvus_server.py real_milvus.py server_calls.py server_processes.py \
	properties_stores.py) tests/memory/test_properties_memory.py tests/envs/pool/test_pool.py \
	tests/actions/test_injection.py tests/commands/test_memory_command.py

milvus: .venv/installed .milvus/installed  ## minutes of tests against a real Milvus server, which is started and ended
	.milvus/bin/python tests/support/stores/real_milvus.py $(BIN)/python -m pytest -p no:cacheprovider -m "milvus and not slow" \
		--hypothesis-profile milvus $(MILVUS_TESTS)

# Each bridge in an environment of its own, in .bridges, with its extra: their pins exclude each other. One that has a package of
# its own in bridges/ brings it along. Those that install torch, `make bridge-trl` and `make bridge-skyrl`, are not among the
# default ones (SkyRL's needs PYTHON=python3.12); their torch is named, as a build for the CPU has that version.
BRIDGES ?= inspect verifiers openenv mcp minari hub

.bridges/uv/bin/uv:
	$(PYTHON) -m venv .bridges/uv
	.bridges/uv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"

.bridges/%/installed: pyproject.toml .bridges/uv/bin/uv
	test -x .bridges/$*/bin/python || $(PYTHON) -m venv --without-pip .bridges/$*
	.bridges/uv/bin/uv pip install --quiet --python .bridges/$*/bin/python --editable ".[$*]" "pytest>=8" "hypothesis>=6.100" \
		$(if $(filter skyrl trl,$*),"torch==2.13.0") $(if $(wildcard bridges/$*/pyproject.toml),--editable bridges/$*)
	touch $@

.PRECIOUS: .bridges/%/installed

bridge-%: .bridges/%/installed
	.bridges/$*/bin/pytest -p no:cacheprovider -p no:logging -q tests/bridges/test_bridge_$*.py

bridges: $(addprefix bridge-,$(BRIDGES))  ## minutes of tests through the real frameworks that docs/use_from.md names, in .bridges

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Type checkers and import-linter see the mapped packages envs/ and agents/ only where they are installed as files.
# What an earlier build left would be installed again, also modules that are gone.
types: .venv/installed
	rm -rf build/site build/lib && $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/site .
	cd build/site && ../../$(BIN)/mypy --config-file ../../pyproject.toml

layers: types
	cd build/site && PYTHONPATH=. ../../$(BIN)/lint-imports --config ../../pyproject.toml --no-cache

docs: .venv/installed  ## the documentation site, in build/docs; every link in it is checked
	$(BIN)/python docs/hooks/environments.py
	$(BIN)/python docs/hooks/public_names.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

slow: .venv/installed  ## the long profiles: fault loops, fuzzing, and the properties with many more examples
	$(BIN)/python -m pytest -n auto -m slow
	$(BIN)/python -m pytest -n auto --hypothesis-profile slow tests/*/test_properties_*.py tests/testing

bench: .venv/installed  ## every benchmark that this machine can run
	$(BIN)/python benchmarks/leaderboard.py
	$(BIN)/python benchmarks/contexts.py
	$(BIN)/python benchmarks/prefix_sharing.py
	$(BIN)/python benchmarks/forks.py
	$(BIN)/python benchmarks/forget.py
	$(BIN)/python benchmarks/records.py
	$(BIN)/python benchmarks/synthetic.py
	$(BIN)/python benchmarks/drift.py
	$(BIN)/python benchmarks/needle.py
	$(BIN)/python benchmarks/stores.py
	$(BIN)/python benchmarks/vector.py
	$(BIN)/python benchmarks/items_ahead.py
	$(BIN)/python benchmarks/parser.py
	$(BIN)/python benchmarks/pool.py
	$(BIN)/python benchmarks/ppo.py
	$(BIN)/python benchmarks/credit.py
	$(BIN)/python benchmarks/team.py
	$(MAKE) verl-learn

# An existing file keeps its pins, so this changes nothing unless they no longer fit together or requirements.in changed.
gpu-lock: .lowest/installed  ## compile verl_configs/gpu/requirements.txt: what GRPO on GPUs is installed from
	.lowest/bin/uv pip compile --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_39 \
		--no-emit-package atommem-gym --custom-compile-command "make gpu-lock" \
		verl_configs/gpu/requirements.in --output-file verl_configs/gpu/requirements.txt

# Real veRL and vLLM without an accelerator: 2.6 GB into an environment of its own, then some 10 minutes on two cores.
.verl/installed: verl_configs/cpu/install.sh verl_configs/cpu/overrides.txt pyproject.toml
	PYTHON=$(PYTHON) verl_configs/cpu/install.sh .verl
	touch $@

verl-environment: .verl/installed  ## veRL, vLLM and this package for the CPU, in .verl

verl-test: .verl/installed  ## the tests that need veRL, without Ray
	.verl/bin/python -m pytest -p no:cacheprovider tests/agents/learn/test_verl_*.py tests/agents/learn/test_launch.py tests/agents/learn/test_grpo.py tests/agents/test_verl_session.py tests/benchmarks/test_verl_*.py

verl-smoke: .verl/installed  ## SFT and GRPO of a tiny Qwen3 with real veRL and real vLLM on the CPU
	PATH="$(CURDIR)/.verl/bin:$$PATH" verl_configs/cpu/smoke.sh build/verl-smoke

NODES_OPTIONS ?= --skip

verl-nodes: .verl/installed  ## two steps of GRPO over two Ray nodes in namespaces of their own (as root)
	PYTHONPATH="$(CURDIR)/verl_configs/cpu" .verl/bin/python -m atommem_verl_cpu.two_nodes build/verl-nodes $(NODES_OPTIONS)

verl-learn: .verl/installed  ## the same until the reward rises, three seeds; goes on where it stopped
	PATH="$(CURDIR)/.verl/bin:$$PATH" .verl/bin/python benchmarks/verl_learn.py

mutation: .venv/installed  ## which slips in the core would no test notice (an hour or two)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "mutmut>=3.3,<4"
	$(BIN)/python benchmarks/mutation.py

clean:
	rm -rf .venv .bridges .lowest .milvus .pythons build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
