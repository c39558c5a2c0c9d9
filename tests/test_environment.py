"""environment.yml says what pyproject.toml says, and the pinned requirements lie within it."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load(Path("environment.yml").read_text(encoding="utf-8"))


def by_name(texts: list[str]) -> dict[str, SpecifierSet]:
    """Package -> allowed versions; a package that is listed twice is an error."""
    requirements = [Requirement(text) for text in texts]
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    assert len(set(names)) == len(names)
    return {name: requirement.specifier for name, requirement in zip(names, requirements, strict=True)}


def declared() -> dict[str, SpecifierSet]:
    groups = PROJECT["optional-dependencies"].values()
    return by_name([*PROJECT["dependencies"], *(text for group in groups for text in group)])


def test_environment_lists_the_packages_of_pyproject_with_the_same_ranges() -> None:
    (pip,) = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
    assert by_name(pip) == declared()


def test_environment_has_an_allowed_python_and_its_pip() -> None:
    python, pip = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
    version = re.fullmatch(r"python=(\d+\.\d+)", python)
    assert version is not None
    assert Version(version[1]) in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"


def test_environment_uses_conda_forge_alone_and_no_folder_of_a_machine() -> None:
    assert ENVIRONMENT["name"] == PROJECT["name"]
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    assert set(ENVIRONMENT) == {"name", "channels", "dependencies"}


def test_pinned_requirements_hold_every_package_within_its_range() -> None:
    path = Path("requirements.txt")
    pins = {
        canonicalize_name(match[1]): Version(match[2])
        for match in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    ranges = declared()
    assert ranges.keys() <= pins.keys()
    outside = {name: str(pins[name]) for name, allowed in ranges.items() if pins[name] not in allowed}
    assert not outside
