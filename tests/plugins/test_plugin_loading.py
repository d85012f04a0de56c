"""Parts by name: what may be named, how it is called, and what is said of what has another form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from support.messages import says
from support.plugins import parts

import atommem_gym
from atommem_gym import testing
from atommem_gym.actions import load_dialect, parse
from atommem_gym.agents import make_agent
from atommem_gym.cli import main
from atommem_gym.config import EnvConfig
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.errors import ConfigError
from atommem_gym.plugins.forms import FORMS
from atommem_gym.readers.loading import load_reader
from atommem_gym.scoring import load_scorer
from atommem_gym.stores.loading import open_store
from atommem_gym.tokenizers import load_tokenizer

LOADERS: dict[str, Any] = {
    "store": lambda name: open_store(name, 4),
    "embedder": load_embedder,
    "tokenizer": load_tokenizer,
    "dialect": load_dialect,
    "agent": make_agent,
    "reward": load_scorer,
    "reader": load_reader,
}
NAMES = {
    "store": "support.plugins.parts:Store",
    "embedder": "support.plugins.parts:Embedder",
    "tokenizer": "support.plugins.parts:Tokenizer",
    "dialect": "support.plugins.parts:lines",
    "reward": "support.plugins.parts:half",
}
"""What an environment is made with here."""
SMALL: dict[str, Any] = {"num_docs": 12, "chunk_tokens": 300}


def test_every_part_has_a_form_a_loader_and_a_check_in_the_kit() -> None:
    assert set(LOADERS) == set(FORMS)
    for keyword, form in FORMS.items():
        assert keyword == "reward" or callable(getattr(testing, form.check))


def test_a_store_is_told_its_dimension_whether_to_keep_and_the_embedder() -> None:
    open_store("support.plugins.parts:KeptStore", 4, keep=True, embedder="e").close()
    assert parts.Store.told == {"dim": 4, "keep": True, "embedder": "e"}
    env = gym.make("AtomMem-Synthetic-v0", **NAMES, **SMALL)
    assert parts.Store.told == {"dim": 27, "keep": None, "embedder": "support.plugins.parts:Embedder#letters-v1"}
    env.close()


def test_M15_an_embedder_s_recorded_name_says_where_it_is_and_which_one() -> None:
    assert load_embedder("support.plugins.parts:Embedder").name == "support.plugins.parts:Embedder#letters-v1"
    assert load_embedder("support.plugins.parts:Embedder") is load_embedder("support.plugins.parts:Embedder")


def test_A6_a_dialect_of_ones_own_reads_and_is_reported_in_its_own_words() -> None:
    env = gym.make("AtomMem-Synthetic-v0", **NAMES, **SMALL)
    env.reset(seed=1)
    observation, _, _, _, info = env.step("I think.\nSTORE: Ada kept bees\nDROP 9\nCHANGE: x\nSTORE:")
    assert info["applied"]["create"] == 1
    assert [(one["operation"], one["reason"]) for one in info["rejected"]] == [
        ("delete", "unknown_id"),
        ("update", "bad_id"),
        ("create", "empty"),
    ]
    assert "DROP" in observation["feedback"]
    assert "<create>" not in observation["feedback"]
    env.action_space.seed(3)
    action = env.action_space.sample()
    assert action in env.action_space
    assert len(parse(action, NAMES["dialect"])) >= 1
    env.close()


@pytest.mark.parametrize("keyword", sorted(LOADERS))
@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("support.plugins.parts:number", ("'support.plugins.parts:number'",)),
        ("support.plugins.parts:Nothing.inside", ("'support.plugins.parts:Nothing.inside'", "has no 'Nothing.inside'")),
        ("no_such_module_of_mine:It", ("'no_such_module_of_mine:It'", "No module named", "PYTHONPATH")),
        ("support.plugins.parts:numbr", ("has no 'numbr'", "did you mean 'number'?")),
        ("broken_module_of_mine:It", ("'broken_module_of_mine:It'", "ZeroDivisionError", "mend the module")),
        ("leaving_module_of_mine:It", ("raised SystemExit: 3", "mend the module")),
        ("needy_module_of_mine:It", ("No module named 'no_such_library'", "or install 'no_such_library'")),
        ("support.plugins.parts:", ("'support.plugins.parts:'",)),
        (":Store", ("':Store'",)),
        ("my-parts:Store", ("'my-parts:Store'",)),
    ],
)
def test_what_cannot_be_found_is_named_with_what_helps(
    keyword: str, value: str, told: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module_of_mine.py").write_text("1 / 0\n")
    (tmp_path / "leaving_module_of_mine.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needy_module_of_mine.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        LOADERS[keyword](value)
    says(caught.value, *told)
    half_a_name = value in ("support.plugins.parts:", ":Store", "my-parts:Store")
    if keyword != "reward":
        assert not half_a_name or "'package.module:name'" in str(caught.value)
        found = value == "support.plugins.parts:number"
        assert not found or f"atommem_gym.testing.{FORMS[keyword].check}" in str(caught.value)
        assert "PYTHONPATH" not in str(caught.value) or value.startswith("no_such_module_of_mine")


@pytest.mark.parametrize(
    ("keyword", "name", "told"),
    [
        ("store", "StoreWithoutDrop", ("has no method 'drop'", "name(dim, *, keep, embedder)")),
        ("store", "store_of_another_signature", ("takes (dim: 'int')", "keep=, embedder=")),
        ("store", "StoreThatRaises", ("OSError", "no such disk")),
        ("store", "lines", ("cannot be called",)),
        ("embedder", "EmbedderWithOneArgument", ("has a method 'embed' that takes", "2 arguments")),
        ("embedder", "EmbedderWithoutDim", ("dim=0", "whole number of at least 1")),
        ("embedder", "EmbedderOfAGiven", ("it takes (model: 'str') and is called with 0 arguments", "name()")),
        ("embedder", "EmbedderOfFloat64", ("float64 [1, 27]", "float32 array [1, 27]")),
        ("embedder", "AwaitedEmbedder", ("coroutine", "'embed'")),
        ("tokenizer", "TokenizerWithoutCut", ("has no method 'cut'",)),
        ("tokenizer", "TokenizerOfLists", ("starts of", "atommem_gym.tokenizers.Tokenizer")),
        ("tokenizer", "TokenizerCalledWords", ("name='words'", "another tokenizer's")),
        ("dialect", "Lines", ("is the class Lines", "an object is wanted")),
        ("dialect", "without_template", ("template=''", "a text that is not empty")),
        ("dialect", "other_kinds", ("tag_names['store']", "create, read")),
        ("dialect", "half", ("has no method 'parse'",)),
        ("agent", "AgentWithoutName", ("name=''", "a text that is not empty")),
        ("agent", "AgentThatAwaits", ("coroutine", "'act'")),
        ("agent", "lines", ("cannot be called",)),
    ],
)
def test_what_has_another_form_is_refused_with_the_rule_and_the_check(
    keyword: str, name: str, told: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        LOADERS[keyword](f"support.plugins.parts:{name}")
    for part in (f"{keyword}='support.plugins.parts:{name}'", *told, f"atommem_gym.testing.{FORMS[keyword].check}"):
        assert part in str(caught.value)


def test_a_reward_of_another_signature_is_refused_at_make() -> None:
    with pytest.raises(ConfigError, match=r"name\(prediction, answers, question\)"):
        gym.make(
            "AtomMem-Synthetic-v0", **SMALL, store="numpy", reward="support.plugins.parts:store_of_another_signature"
        )


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"store": "support.plugins.parts:StoreOfAnotherDim"}, ("opened for 1024 dimensions", "dim=1025")),
        ({"store": "support.plugins.parts:Store", "keep_memory": True}, ("keep_memory=True", "kept=False")),
        ({"store": "support.plugins.parts:Store", "store_reads": "milvus"}, ("store_reads='milvus'", "has no Milvus")),
        ({"dialect": "cruds"}, ("dialect='cruds'", "'package.module:name'", "did you mean 'crud'?")),
        ({"dialect": "support.plugins.parts:"}, ("dialect='support.plugins.parts:'", "check_dialect")),
    ],
)
def test_what_contradicts_itself_is_refused_at_make(keywords: dict[str, Any], told: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        gym.make("AtomMem-Synthetic-v0", **SMALL, **keywords)
    for part in told:
        assert part in str(caught.value)


def test_configuring_imports_nothing() -> None:
    EnvConfig.from_keywords(dict.fromkeys(NAMES, "not_there_at_all:It"))
    assert "not_there_at_all" not in sys.modules


STANDING = """
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.tokenizers import load_tokenizer


class Embedder:
    name = "standing"

    def __init__(self):
        self.base = load_embedder("hashing")
        self.dim = self.base.dim

    def embed(self, texts, kind):
        return self.base.embed(texts, kind)


class Tokenizer:
    name = "standing too"

    def __init__(self):
        self.base = load_tokenizer("words")

    def __getattr__(self, method):
        return getattr(self.base, method)


if __name__ == "__main__":
    print(load_embedder("standing:Embedder").dim, load_tokenizer("standing:Tokenizer").count("one text"))
"""


def test_a_part_may_stand_on_a_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "standing.py").write_text(STANDING)
    # In a process of its own: one that waits for itself would wait for ever.
    done = subprocess.run(
        [sys.executable, "standing.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "1024 2\n"


def test_the_names_survive_a_spec_s_json_in_another_process(tmp_path: Path) -> None:
    env = gym.make("AtomMem-Synthetic-v0", **NAMES, **SMALL)
    assert env.spec is not None
    text = env.spec.to_json()
    assert {name: json.loads(text)["kwargs"][name] for name in NAMES} == NAMES
    again = gym.make(EnvSpec.from_json(text))
    program = (
        "import sys, gymnasium as gym, atommem_gym\n"
        "from gymnasium.envs.registration import EnvSpec\n"
        "env = gym.make(EnvSpec.from_json(sys.stdin.read()))\n"
        "env.reset(seed=4)\n"
        "print(env.step('STORE: one fact')[0]['feedback'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(parts.__file__).parents[2]), "PATH": ""},
    )
    for one in (env, again):
        one.reset(seed=4)
        assert one.step("STORE: one fact")[0]["feedback"] == done.stdout.strip()
        one.close()
    assert atommem_gym.__version__


@pytest.mark.parametrize("trainer", ["verl", "skyrl"])
@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("embedder=hashin", "did you mean 'hashing'?"),
        ("embedder=localhost:8000/v1", "a URL without a scheme"),
        ("store=numpyy", "unknown store 'numpyy'; did you mean 'numpy'?"),
        ("reward=emm", "did you mean 'em'?"),
        ("store=support.plugins.parts:store_of_another_signature", "is called with 1 argument and keep=, embedder="),
        *((f"{keyword}=no_such_module_of_mine:It", "PYTHONPATH") for keyword in LOADERS if keyword != "agent"),
    ],
)
def test_finding_6_8_training_data_names_no_part_that_the_trainer_will_not_find(
    trainer: str, setting: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", trainer, "Synthetic", "-o", str(tmp_path), "--train", "1", "--validation", "1", "--set", setting]
    assert main(command) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
