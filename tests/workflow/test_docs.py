"""README and docs/: links lead somewhere, commands name what is there, the lists are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pldrepro.__main__ import VERBS
from pldrepro.files import REPOSITORY
from pldrepro.policy.drop import DropSettings

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "config/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
LONGEST = 120  # lines of README
TARGETS = {"tables", "figures", "claims", "reviews", "report", "all", "study"}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", text(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


PATH_OF_THE_REPOSITORY = re.compile(r"(?<![\w/])(?:config|workflow|profiles|tests|pldrepro)/[\w/.-]+\.(?:yaml|py)\b")
HISTORY = {"decisions.md", "CHANGELOG.md"}  # they speak of what was, too


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=lambda page: page.name)
def test_commands_name_what_is_there(page: Path) -> None:
    for group, verb in re.findall(r"python -m pldrepro (\w+) (\w+)", text(page)):
        assert f"{group} {verb}" in VERBS
    targets = re.findall(r"^([a-z-]+):", text(REPOSITORY / "Makefile"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text(page), re.MULTILINE)) <= set(targets)
    made_up = {"config/X.yaml", *re.findall(r"^# (config/\S+\.yaml)$", text(page), re.MULTILINE)}
    for name in set(PATH_OF_THE_REPOSITORY.findall(text(page))) - made_up:
        assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_come_before_options_that_take_many_values(page: Path) -> None:
    known = {*TARGETS, *EXHIBITS["tables"], *EXHIBITS["figures"]}
    for command in re.findall(r"^(?:.*`)?(snakemake [^`\n#]*)", text(page).replace("\\\n", " "), re.MULTILINE):
        words = command.split()
        many = [place for place, word in enumerate(words) if word in ("--configfile", "--config", "--quiet")]
        assert not known & set(words[many[0] :] if many else ()), command


EXHIBITS = yaml.safe_load(text(REPOSITORY / "workflow/report/exhibits.yaml"))


@pytest.mark.parametrize("kind", EXHIBITS)
def test_the_page_of_exhibits_has_each_with_its_label(kind: str) -> None:
    section = text(REPOSITORY / "docs/exhibits.md").partition(f"## {kind.capitalize()}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert rows == [(name, one["label"], one["shows"]) for name, one in EXHIBITS[kind].items()]


def test_the_readme_is_one_page() -> None:
    assert len(text(REPOSITORY / "README.md").splitlines()) <= LONGEST


def test_the_example_of_policies_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", text(REPOSITORY / "docs/api/policies.md"), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 (of this repository)
    assert names["policy"] == DropSettings(dialect="paper_alg1")
