"""Our templates, for every dialect and ablation; templates of the user's; injection (SPEC E10, M12)."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import pytest
from support.game import QUESTIONS, Game

from atommem_gym.agents.learn.prefix_sharing import common
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.prompts import PromptTemplate

TAGS = {
    "crud": {
        "create": "<create>",
        "read": "<read>",
        "update": "<update",
        "delete": "<delete",
        "scratchpad": "<scratchpad>",
    },
    "released": {
        "create": "<add_memory>",
        "read": "<update_query>",
        "update": "<modify_memory>",
        "delete": "<delete_memory>",
        "scratchpad": "<update_memory>",
    },
    "tools": {kind: f"- {kind}(" for kind in ("create", "read", "update", "delete", "scratchpad")},
}


def template(**keywords: Any) -> PromptTemplate:
    return PromptTemplate(EnvConfig.from_keywords(keywords))


@pytest.mark.parametrize("dialect", TAGS)
def test_the_system_prompt_names_every_operation(dialect: str) -> None:
    system = template(dialect=dialect).system
    assert all(tag in system for tag in TAGS[dialect].values())


@pytest.mark.parametrize("dialect", TAGS)
@pytest.mark.parametrize("removed", ["create", "read", "update", "delete"])
def test_M12_a_removed_operation_is_not_mentioned(dialect: str, removed: str) -> None:
    kept = [kind for kind in ("create", "read", "update", "delete") if kind != removed]
    system = template(dialect=dialect, operations=kept).system
    assert TAGS[dialect][removed] not in system
    words = {"create": "Store each", "read": "Search first", "update": "update an entry", "delete": "delete an entry"}
    assert words[removed] not in system
    assert all(words[kind] in system for kind in kept)


@pytest.mark.parametrize("dialect", TAGS)
def test_M12_without_storage_or_scratchpad_the_prompt_does_not_speak_of_them(dialect: str) -> None:
    bare = template(dialect=dialect, storage=False).system
    assert "Long-term memory" not in bare
    assert TAGS[dialect]["create"] not in bare
    bare = template(dialect=dialect, scratchpad=False).system
    assert "cratchpad" not in bare
    assert TAGS[dialect]["scratchpad"] not in bare


@pytest.mark.parametrize("dialect", TAGS)
def test_both_phases_show_what_the_observation_holds(dialect: str) -> None:
    game = Game(chunks=2, questions=2, dialect=dialect)
    show = PromptTemplate(game.config).user
    text = show(game.seen)
    assert game.seen["chunk"] in text
    assert QUESTIONS[1].question in text
    assert "Chunk 1 of 2" in text
    game.step(
        {
            "crud": "<create>bees</create><read>bees</read><scratchpad>notes</scratchpad>",
            "released": "<add_memory>bees</add_memory><update_query>bees</update_query>"
            "<update_memory>notes</update_memory>",
            "tools": "".join(
                f'<tool_call>{{"name": "{name}", "arguments": {{"{key}": "{text}"}}}}</tool_call>'
                for name, key, text in (
                    ("create", "text", "bees"),
                    ("read", "query", "bees"),
                    ("scratchpad", "text", "notes"),
                )
            ),
        }[dialect]
    )
    game.step("")
    text = show(game.seen)
    assert "notes" in text
    assert "All chunks have been read" in text
    assert QUESTIONS[0].question in text
    assert QUESTIONS[1].question not in text


def test_memories_are_shown_by_id_or_by_position() -> None:
    for dialect, entry in (("crud", "[2] bees"), ("tools", "[2] bees"), ("released", "Memory 1: bees")):
        observation = {**Game().seen, "query": "bees", "memories": ({"id": 2, "text": "bees", "score": 1.0},)}
        assert entry in template(dialect=dialect).user(observation)


def test_texts_of_documents_and_policy_are_not_read_as_template() -> None:
    observation = {**Game().seen, "chunk": "{{ 7 * 7 }} {% raw %} <b>&amp;</b>", "scratchpad": "{{ config }}"}
    text = template().user(observation)
    assert "{{ 7 * 7 }} {% raw %} <b>&amp;</b>" in text
    assert "{{ config }}" in text


def test_a_template_of_the_users_replaces_ours_and_may_extend_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.j2"
    path.write_text(
        "{% if part == 'system' %}Read for {{ max_steps }}.{% else %}{{ question }} / {{ chunk }}{% endif %}"
    )
    mine = PromptTemplate(EnvConfig.from_keywords({"max_steps": 9}), path)
    assert mine.system == "Read for 9."
    seen = Game().seen
    assert mine.messages(seen)[1]["content"] == f"{seen['question']} / {seen['chunk']}".strip()
    path.write_text("{% extends 'crud.j2' %}{% block memory %}Remember!{% endblock %}")
    assert "Remember!" in PromptTemplate(EnvConfig.from_keywords({}), path).system


@pytest.mark.parametrize("text", ["{% if %}", "{{ nothing_like_this }}", None])
def test_a_template_that_cannot_be_used_is_named(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "broken.j2"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.j2"):
        PromptTemplate(EnvConfig.from_keywords({}), path)


TWICE = "{% if n %}{% set n = n - 1 %}{% include 'twice.j2' %}{% include 'twice.j2' %}{% endif %}"
DOUBLED = "{% set n = namespace(a=['aa']) %}{% for i in range(60) %}{% set n.a = CODE %}{% endfor %}"
HOSTILE = {
    # Out of the sandbox.
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}": "SecurityError",
    "{{ kinds.__class__.__mro__ }}": "SecurityError",
    "{{ ''|attr('__class__') }}": "SecurityError",
    "{{ '{0.__class__.__mro__}'.format(1) }}": "SecurityError",
    "{{ tool_schemas.append(1) }}": "SecurityError",
    # Out of the folder.
    "{% include 'link' %}": "TemplateNotFound",
    "{% include '../../etc/hostname' %}": "TemplateNotFound",
    "{% include '/etc/hostname' %}": "TemplateNotFound",
    "{% extends 'inner/link' %}": "TemplateNotFound",
    # Out of memory.
    "{{ 'a' * 10**8 }}": "characters",
    "{{ 10**8 * 'a' }}": "characters",
    "{{ [0] * 10**9 }}": "characters",
    "{{ 'a'|center(10**9) }}": "characters",
    "{{ 'a'.ljust(1000000000) }}": "characters",
    "{{ ['x', 'x']|map('center', 1000000000)|list }}": "characters",
    "{{ 'a'|batch(10**9, 'x')|list }}": "characters",
    "{{ ('\n' * 30000)|indent(99999) }}": "characters",
    "{{ ('a' * 10000000).replace('', 'b' * 10000000) }}": "characters",
    "{{ ('a' * 10000000)|replace('', 'b' * 10000000) }}": "characters",
    "{{ ('b' * 10000000).join('a' * 10000000) }}": "characters",
    "{{ range(99999)|map('string')|join('b' * 10000000) }}": "characters",
    "{{ '%1000000000d' % 1 }}": "wide",
    "{{ '%*d' % (1000000000, 1) }}": "wide",
    "{{ '%1000000000d'|format(1) }}": "wide",
    "{{ '{:1000000000}'.format(1) }}": "wide",
    "{{ '{:{}}'.format(1, 1000000000) }}": "wide",
    "{{ 2.5|round(1000000000, 'ceil') }}": "characters",
    "{{ 9**(9**9) }}": "bits",
    "{{ 10**999 * 10**999 * 10**999 }}": "bits",
    "{{ lipsum(100000) }}": "UndefinedError",
    DOUBLED.replace("CODE", "n.a + n.a"): "characters",
    DOUBLED.replace("CODE", "n.a ~ n.a"): "characters",
    DOUBLED.replace("CODE", "[n.a, n.a]") + "{{ n.a }}": "characters",
    DOUBLED.replace("CODE", "[n.a, n.a]") + "{{ n.a|string }}": "characters",
    "{% set n = namespace(a=2) %}{% for i in range(99999) %}{% set n.a = n.a + n.a %}{% endfor %}": "bits",
    "{% macro f(s) %}" + "{{ s }}" * 50 + "{% endmacro %}{{ f(f(f(f(f(f('aaaa')))))) }}": "characters",
    "{% set s = 'a' * 30000000 %}{% set x %}" + "{{ s }}" * 50 + "{% endset %}": "characters",
    "".join(f"{{% set v{i} = 'a' * 30000000 %}}" for i in range(40)): "characters",
    "{% for a in range(99999) %}" + "x" * 1000 + "{% endfor %}": "characters",
    # Out of time.
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": "iterations",
    "{% for a in range(999999) %}x{% endfor %}": "OverflowError",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}": "iterations",
    "{% set n = 60 %}{% include 'twice.j2' %}": "iterations",
    "{% include 'self.j2' %}": "RecursionError",
    # Merely wrong.
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{{ 'a' + 1 }}": "TypeError",
}


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "self.j2").write_text("{% include 'self.j2' %}")
    (tmp_path / "twice.j2").write_text(TWICE)
    for link in ("link", "inner/link"):
        (tmp_path / link).symlink_to("/etc/hostname")
    return tmp_path / "strange.j2"


@pytest.mark.parametrize("source", HOSTILE)
def test_finding_1_1_a_strange_template_ends_in_an_error_soon_and_takes_no_memory(strange: Path, source: str) -> None:
    strange.write_text(source)
    before = resource.getrlimit(resource.RLIMIT_AS)
    # A template that gets more memory than this ends in a MemoryError, which is no ConfigError.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 1_500_000_000, before[1]))
    started = time.monotonic()
    try:
        with pytest.raises(ConfigError, match=rf"(?s)strange\.j2.*{HOSTILE[source]}"):
            PromptTemplate(EnvConfig(), strange)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.monotonic() - started < 30


def test_finding_1_1_what_a_template_honestly_does_still_works(strange: Path) -> None:
    (strange.parent / "inner" / "part.j2").write_text("{% for kind in kinds %}{{ loop.index }}{{ kind }} {% endfor %}")
    strange.write_text(
        '{% extends "crud.j2" %}{% block answer_tag %}{% include "inner/part.j2" %}'
        '{{ "%s of %5.1f" % ("a", 1.5) }}{{ "{:,} {:>8}".format(12345678, "b") }}{{ "{{x}}".format() }}'
        '{{ kinds|join(", ")|upper|replace("READ", "FIND") }}{{ "x" ~ 3 ~ kinds|length }}{{ 2 ** 10 * 3 + 4 % 3 }}'
        '{% for a, b in {"k": 1}|dictsort %}{{ a }}={{ b }}{% else %}none{% endfor %}{{ "-" * 3 }}'
        "{% for a in [1, [2]] recursive %}{{ loop(a) if a is sequence else a }}{% endfor %}"
        "{{ max_entries|default(0, true) }}"
        '{% for a in kinds|select("equalto", "read") %}{{ loop.last }}{% endfor %}{{ tool_schemas|tojson|length > 9 }}'
        "{% endblock %}"
    )
    system = PromptTemplate(EnvConfig(), strange).system
    assert "1create 2read 3update 4delete 5scratchpad 6answer" in " ".join(system.split())
    assert "a of   1.512,345,678        b{x}CREATE, FIND, UPDATE, DELETE, SCRATCHPAD, ANSWERx363073" in system
    assert "k=1---120TrueTrue" in system


def test_finding_1_1_a_prompt_of_many_documents_is_within_the_bounds() -> None:
    game = Game(chunks=2, questions=1)
    seen = {**game.seen, "chunk": "word " * 4_000_000}
    assert len(PromptTemplate(game.config).user(seen)) > 20_000_000 - 1


@pytest.mark.parametrize("dialect", TAGS)
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_finding_5_8_a_shared_prefix_holds_all_that_a_group_has_in_common(dialect: str, preset: str) -> None:
    """The chunk comes before what members differ in, and nothing is lost or added."""
    config = EnvConfig.from_keywords({"dialect": dialect, "preset": preset})
    ours, shared = PromptTemplate(config), PromptTemplate(config, "shared_prefix")
    assert (
        PromptTemplate(EnvConfig.from_keywords({**config.as_keywords(), "template": "shared_prefix"})).system
        == ours.system
    )
    entries = ({"id": 2, "text": "bees", "score": 1.0},)
    here = {**Game(chunks=2, questions=2).seen, "steps_left": 9, "reads_left": 2}
    one = {**here, "scratchpad": "", "query": "", "memories": (), "feedback": ""}
    other = {
        **here,
        "scratchpad": "notes",
        "query": "bees",
        "memories": entries,
        "feedback": "done",
        "steps_left": 7,
        "reads_left": 1,
    }
    for phase in (0, 1):
        texts = [shared.user({**seen, "phase": phase}) for seen in (one, other)]
        prefix = texts[0][: common(*texts)]
        assert here["question"] in prefix
        assert (here["chunk"] in prefix) is (phase == 0)
        for text, seen in zip(texts, (one, other), strict=True):
            lines = ours.user({**seen, "phase": phase}).splitlines()
            assert sorted(filter(None, text.splitlines())) == sorted(filter(None, lines))
        assert "notes" in texts[1]
        assert "bees" in texts[1]
        assert "done" in texts[1]
    texts = [ours.user({**seen, "phase": 0}) for seen in (one, other)]
    # The dialect's own order shows the scratchpad before the chunk.
    assert here["chunk"] not in texts[0][: common(*texts)]


def test_finding_5_8_the_name_is_ours_and_a_file_of_that_name_needs_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shared_prefix").write_text("a file")
    config = EnvConfig.from_keywords({})
    assert PromptTemplate(config, "shared_prefix").system == PromptTemplate(config).system
    assert PromptTemplate(config, "./shared_prefix").system == "a file"
    with pytest.raises(ConfigError, match="shared_prefiks"):
        PromptTemplate(config, "shared_prefiks")
