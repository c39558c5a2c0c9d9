"""The environments of conda, the lock file and the container recipe say what pyproject.toml says."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
# Environment -> the requirements of pyproject.toml that it holds.
ENVIRONMENTS = {
    "workflow/envs/training.yaml": [*PROJECT["dependencies"], *EXTRAS["training"], *EXTRAS["data"]],
    "workflow/envs/analysis.yaml": [*PROJECT["dependencies"], *EXTRAS["analysis"]],
    "environment.yml": [
        *PROJECT["dependencies"], *EXTRAS["training"], *EXTRAS["data"], *EXTRAS["analysis"], *EXTRAS["workflow"],
        *EXTRAS["cluster"],
    ],
}  # fmt: skip


def by_name(texts: list[str]) -> dict[str, SpecifierSet]:
    """Package -> allowed versions; a package that is listed twice is an error."""
    requirements = [Requirement(text) for text in texts]
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    assert len(set(names)) == len(names)
    return {name: requirement.specifier for name, requirement in zip(names, requirements, strict=True)}


def declared() -> dict[str, SpecifierSet]:
    """Every package of pyproject.toml; those that only build the site of the documentation have a file of their own."""
    groups = [texts for name, texts in EXTRAS.items() if name != "docs"]
    return by_name(sorted({*PROJECT["dependencies"], *(text for group in groups for text in group)}))


def read_environment(path: str) -> dict[str, Any]:
    environment: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return environment


def packages(path: str) -> dict[str, SpecifierSet]:
    """The packages of an environment, but Python and pip."""
    listed = read_environment(path)["dependencies"]
    return by_name([text for text in listed if text != "pip" and not text.startswith("python=")])


@pytest.mark.parametrize("path", ENVIRONMENTS)
def test_environments_have_the_packages_and_ranges_of_pyproject(path: str) -> None:
    wanted = {CONDA_NAMES.get(name, name): spec for name, spec in by_name(sorted(set(ENVIRONMENTS[path]))).items()}
    assert packages(path) == wanted


@pytest.mark.parametrize("path", ENVIRONMENTS)
def test_environments_name_public_channels_and_no_folder_of_a_machine(path: str) -> None:
    environment = read_environment(path)
    assert environment["channels"][0] == "conda-forge"
    assert environment["channels"][-1] == "nodefaults"
    assert set(environment) <= {"name", "channels", "dependencies"}
    (python,) = [text for text in environment["dependencies"] if text.startswith("python=")]
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"])


def test_analysis_has_no_torch_and_no_rule_installs_a_linter() -> None:
    listed = read_environment("workflow/envs/analysis.yaml")["dependencies"]
    assert not any("torch" in text for text in [*listed, *PROJECT["dependencies"], *EXTRAS["analysis"]])
    tools = by_name([*EXTRAS["lint"], *EXTRAS["test"]])
    assert not any(tools.keys() & packages(path).keys() for path in ENVIRONMENTS)


def test_every_rule_has_the_environment_of_its_half() -> None:
    for half, rules in {"training": ("data", "training"), "analysis": ("analysis",)}.items():
        for name in rules:
            text = Path(f"workflow/rules/{name}.smk").read_text(encoding="utf-8")
            assert text.count(f'"../envs/{half}.yaml"') == text.count("conda:") == text.count("shell:") > 0


LOCK = Path("requirements.txt").read_text(encoding="utf-8")
MAKEFILE = Path("Makefile").read_text(encoding="utf-8")


def locked() -> dict[str, tuple[Version, list[str]]]:
    """Package -> version and hashes, of the lock file; each package once."""
    found: dict[str, tuple[Version, list[str]]] = {}
    lines = [line for line in LOCK.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    for requirement, *hashes in map(str.split, lines):
        name, version = requirement.split("==")
        found[canonicalize_name(name)] = (Version(version), hashes)
    assert len(found) == len(lines)
    return found


def test_pinned_packages_lie_within_their_ranges() -> None:
    pins = {name: version for name, (version, _) in locked().items()}
    ranges = declared()
    torch = ranges.pop("torch")  # depends on the machine: the Makefile has it, not the lock file
    assert any(f"torch=={version}\n" in MAKEFILE for version in torch.filter(f"2.{n}.0" for n in range(100)))
    assert ranges.keys() <= pins.keys()
    outside = {name: str(pins[name]) for name, allowed in ranges.items() if pins[name] not in allowed}
    assert not outside


def test_every_package_but_torch_is_locked_by_the_hashes_of_its_files() -> None:
    assert all(hashes and all(one.startswith("--hash=sha256:") for one in hashes) for _, hashes in locked().values())
    assert "torch" not in locked()
    assert "--require-hashes" in MAKEFILE
    assert "://" not in MAKEFILE + LOCK  # the index is the one that pip is configured with


def test_the_site_is_built_with_pinned_versions_within_their_ranges() -> None:
    lines = [line for line in Path("docs/requirements.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}
    assert all(pins[name] in allowed for name, allowed in by_name(EXTRAS["docs"]).items())
