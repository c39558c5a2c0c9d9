"""Files for others: the container recipe, the citation, the CI, the labels of Snakemake's report."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from pldrepro.analysis.reported import load_papers
from pldrepro.exhibits.figures import FIGURES
from pldrepro.exhibits.tables import TABLES

REPOSITORY = Path(__file__).resolve().parents[2]


def read(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and their arguments, comments and line breaks removed."""
    text = "\n".join(line for line in read("Dockerfile").splitlines() if not line.startswith("#"))
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_container_installs_what_make_setup_installs() -> None:
    commands = [part for name, rest in instructions() if name == "RUN" for part in rest.split(" && ")]
    makefile = read("Makefile")
    (torch,) = re.findall(r"^TORCH := (\S+)$", makefile, re.MULTILINE)
    locked, build = [part for part in commands if "pip install" in part]
    assert locked == "python -m pip install --require-hashes --no-deps --requirement /opt/requirements.txt"
    assert "$(PIP) --require-hashes --no-deps --requirement requirements.txt" in makefile
    assert build.startswith(f"python -m pip install {torch} ")


def test_the_container_recipe_is_repeatable_and_small() -> None:
    found = instructions()
    assert {name for name, _ in found} <= {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "CMD"}  # no ADD, no latest
    (base,) = [rest for name, rest in found if name == "FROM"]
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base)
    (packages,) = [rest for name, rest in found if name == "RUN" and "apt-get" in rest]
    assert "--yes --no-install-recommends" in packages
    assert "rm -rf /var/lib/apt/lists/*" in packages
    sources = [source for name, rest in found if name == "COPY" for source in rest.split()[:-1]]
    assert sources
    assert all((REPOSITORY / source).is_file() and f"!{source}" in read(".dockerignore") for source in sources)
    assert read(".dockerignore").startswith("*\n")
    assert not any("conda" in rest for _, rest in found)


def test_the_container_is_built_and_run_as_the_page_says() -> None:
    """The commands of the recipe's own comment, and the folder that they mount the checkout at."""
    page, recipe = read("docs/running.md"), read("Dockerfile")
    commands = re.findall(r"^#   (docker .+)$", recipe, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["build", "run"]
    assert all(f"\n{command}\n" in page for command in commands)
    (folder,) = [rest for name, rest in instructions() if name == "WORKDIR"]
    assert f'--volume "$PWD:{folder}"' in commands[1]
    assert f'--bind "$PWD:{folder}" --pwd {folder} ' in page
    assert f"PYTHONPATH={folder} " in recipe
    # The user of --user has neither a home nor a name in the image, and Snakemake asks for the name.
    assert "--user " not in commands[1] or re.search(r"^ENV .*\bHOME=/tmp USER=\w+$", recipe, re.MULTILINE)
    assert f"--add safe.directory {folder}\n" in recipe


def test_the_citation_names_the_papers_and_the_version() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    papers = load_papers()
    titles = {
        one["title"]: [f"{a['given-names']} {a['family-names']}" for a in one["authors"]]
        for one in citation["references"]
    }
    assert titles == {paper.title: list(paper.authors) for paper in papers.values()}


def test_the_ci_runs_what_everybody_can_run() -> None:
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    for job in jobs.values():
        latex, everything = [step["run"] for step in job["steps"] if "run" in step]
        assert everything == ".ci/run"
        # Without it the test of LaTeX is skipped there: no step of a forge is root.
        assert latex.startswith("sudo apt-get update ")
        (package,) = re.findall(r"texlive-\S+", latex)
        assert package in read(".ci/run")
        assert package in read("tests/exhibits/test_tables.py")


def test_every_exhibit_has_its_label_in_the_report_of_snakemake() -> None:
    labels = yaml.safe_load(read("workflow/report/exhibits.yaml"))
    assert labels["tables"].keys() == TABLES.keys()
    assert labels["figures"].keys() == FIGURES.keys()
    for exhibit in [*labels["tables"].values(), *labels["figures"].values()]:
        assert exhibit.keys() == {"group", "label", "shows"}
