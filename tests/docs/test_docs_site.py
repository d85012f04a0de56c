"""The documentation site builds without a warning, loads nothing from elsewhere, and is what the code says."""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import pytest

from atommem_gym.config import NO_KEYWORDS, EnvConfig
from atommem_gym.registration import TASKS
from atommem_gym.task import load_attribute

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "environments"
BEHIND = "the pages are behind the code: run `python docs/hooks/environments.py` and commit what it writes"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = ROOT / "docs" / "hooks" / "environments.py"
    spec = importlib.util.spec_from_file_location("docs_environments", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_environments_pages_are_what_their_docstrings_say(generator: ModuleType) -> None:
    wanted = generator.pages()
    assert {path.name for path in PAGES.glob("*.md")} == set(wanted), BEHIND
    for name, text in wanted.items():
        assert (PAGES / name).read_text(encoding="utf-8") == text, f"{name}: {BEHIND}"


def test_every_environment_has_a_page_with_gymnasium_s_sections(generator: ModuleType) -> None:
    assert {task.env_id for task in generator.family()} == {
        name for name in gym.registry if name.startswith("AtomMem-")
    }
    for task in generator.family():
        page = (PAGES / generator.file_name(task)).read_text(encoding="utf-8")
        titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
        assert titles == [
            *("Description", "Action Space", "Observation Space", "Starting State", "Rewards", "Episode End"),
            *("Information", "Arguments", "An Item", "Version History"),
        ], task.name


def test_every_keyword_argument_is_described_with_its_default(generator: ModuleType) -> None:
    described = generator.descriptions(EnvConfig)
    assert set(described) == {field.name for field in fields(EnvConfig)}
    for task in TASKS.values():
        page = (PAGES / generator.file_name(task)).read_text(encoding="utf-8")
        options = load_attribute(task.options, "options") if task.options else None
        for field in (*fields(EnvConfig), *(fields(options) if options else ())):
            hidden = NO_KEYWORDS if not task.contexts else (*NO_KEYWORDS, "num_docs")
            assert (f"\n| `{field.name}` | " in page) == (field.name not in hidden), (task.name, field.name)
        for name, value in task.defaults.items():
            assert f"\n| `{name}` | **`{generator._shown(value)}`** | " in page, (task.name, name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; building raises at the first wrong link."""
    pytest.importorskip("material", reason="needs mkdocs-material: pip install 'atommem-gym[docs]'")
    pytest.importorskip("mkdocstrings", reason="needs mkdocstrings, and Python 3.11: pip install 'atommem-gym[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    warnings = Warnings()
    logging.getLogger("mkdocs").addHandler(warnings)
    try:
        build(config)
    except Abort:
        pytest.fail("the site has warnings (`make docs` shows them, too):\n" + "\n".join(warnings.said), pytrace=False)
    finally:
        logging.getLogger("mkdocs").removeHandler(warnings)
    return folder


class Warnings(logging.Handler):
    """Keeps what mkdocs warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def test_the_site_builds_strictly_with_every_page_in_it(site: Path) -> None:
    names = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    assert names == {str(p.relative_to(site).with_suffix("")) for p in site.rglob("*.html")} - {"404"} - results(site)
    assert "arxiv.org" in (site / "external_links.txt").read_text(encoding="utf-8")


def results(site: Path) -> set[str]:
    return {str(path.relative_to(site).with_suffix("")) for path in (site / "benchmarks").rglob("*.html")}


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        html = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:[^\s\">]+)", html)
        loaded += re.findall(r"<link(?![^>]*rel=\"?canonical)[^>]*\shref=\"?(https?:[^\s\">]+)", html)
        assert not loaded, (path.name, loaded)
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?https?:", path.read_text(encoding="utf-8")), path


def test_the_rules_that_tests_and_messages_quote_are_on_their_page() -> None:
    page = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    written = set(re.findall(r'<a id="([MAERD]\d+)"></a>\*\*\1\*\*', page))
    quoted = set()
    # D7 and above number the defects of the released code.
    for path in (ROOT / "tests").rglob("test_*.py"):
        quoted |= set(re.findall(r"def test_([MAER]\d+|D[1-6])_", path.read_text(encoding="utf-8")))
    for path in (ROOT / "atommem_gym").rglob("*.py"):
        quoted |= set(re.findall(r"\bSPEC ([MAER]\d+|D[1-6])\b", path.read_text(encoding="utf-8")))
    assert len(quoted) > 30
    assert quoted <= written


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_the_repository_s_own_pages_link_to_what_is_there(name: str) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert targets
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


def test_the_home_page_s_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, "docs/index.md", "exec"), {})
    assert "'create'" in capsys.readouterr().out


def test_a_wrong_link_fails_the_build(tmp_path: Path) -> None:
    """The checks are on: for pages and for places in pages that do not exist."""
    pytest.importorskip("material", reason="needs mkdocs-material: pip install 'atommem-gym[docs]'")
    import yaml
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    for name, text in {"link": "[x](gone.md)", "anchor": "[x](#gone)", "fine": "[x](#here)\n\n# Here"}.items():
        docs = tmp_path / name / "docs"
        docs.mkdir(parents=True)
        (docs / "index.md").write_text(text)
        kept = {key: settings[key] for key in ("site_name", "validation", "use_directory_urls")}
        config_file = tmp_path / name / "mkdocs.yml"
        config_file.write_text(yaml.safe_dump({**kept, "nav": ["index.md"]}))
        config = load_config(str(config_file), site_dir=str(tmp_path / name / "site"), strict=True)
        if name == "fine":
            build(config)
        else:
            with pytest.raises(Abort):
                build(config)
