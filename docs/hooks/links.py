"""The site's hook: shows measured results beside the pages, and keeps a list of all links that lead out of the site."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = "benchmarks/results"
EXTERNAL = "external_links.txt"
MADE = "made"
"""Stands in the navigation for the pages of a section that are not written by hand."""

_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_HREF = re.compile(r'href="(https?://[^"]+)"')
_external: dict[str, str] = {}
logger = logging.getLogger("mkdocs.plugins.atommem")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the sections of the navigation whose pages are made by commands."""
    made: dict[str, list[Any]] = {
        "Environments": environments(),
        "Results": sorted(f"{RESULTS}/{path.name}" for path in (ROOT / RESULTS).glob("*.md")),
    }
    for section in config.nav or []:
        for title, pages in section.items():
            pages[:] = [made_page for page in pages for made_page in (made[title] if page == MADE else [page])]
    return config


def environments() -> list[dict[str, str]]:
    """Titles and pages of the environments, in the order of their overview."""
    overview = (ROOT / "docs" / "environments" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"\[`AtomMem-([\w-]+)-v\d+`\]\((\w+\.md)\)", overview)
    return [{name: f"environments/{page}"} for name, page in listed]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what the benchmarks measured, which lies outside of docs/, under the same path."""
    _external.clear()
    for path in sorted((ROOT / RESULTS).iterdir()):
        if path.suffix in (".md", ".png"):
            files.append(File.generated(config, f"{RESULTS}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that are right in the repository into links that are right in the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(here if here.startswith("benchmarks/") else f"docs/{here}")

    def resolved(match: re.Match[str]) -> str:
        target = match[1]
        if "://" in target or target.startswith(("/", "mailto:")):
            return match[0]
        place = in_site(posixpath.normpath(posixpath.join(folder, target)))
        return posixpath.relpath(place, posixpath.dirname(here) or ".") + (match[2] or "")

    return _LINK.sub(resolved, markdown)


def in_site(path: str) -> str:
    """Where a file of the repository stands in the site; what is not there stays, and fails a strict build."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/")


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Note external links: they are listed and not fetched, so that a build needs no network."""
    for url in _HREF.findall(html):
        _external.setdefault(url, page.file.src_uri)
    return html


def on_post_build(*, config: MkDocsConfig) -> Any:
    """Write the list beside the site and say where it is."""
    path = Path(config.site_dir) / EXTERNAL
    path.write_text("".join(f"{url}  ({page})\n" for url, page in sorted(_external.items())), encoding="utf-8")
    logger.info("%d external links, not fetched: %s", len(_external), path)
