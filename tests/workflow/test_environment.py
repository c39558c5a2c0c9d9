"""environment.yml says what pyproject.toml says, and the pinned requirements lie within it."""

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
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"


def test_environment_uses_conda_forge_only_and_no_folder_of_a_machine() -> None:
    assert ENVIRONMENT["name"] == PROJECT["name"]
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    assert set(ENVIRONMENT) == {"name", "channels", "dependencies"}


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
