"""The layers of the package: a module imports from its own level or from above, and analysis never from training."""

import ast
import re
from pathlib import Path

import pytest

import pldrepro

PACKAGE = Path(pldrepro.__file__).parent
TRAINING = {
    "models", "optim", "checkpoint", "device", "distributed", "lambada", "pretrain", "finetune", "probe", "calibrate",
}  # fmt: skip
WITHOUT_TORCH = {
    "config",
    "drop",
    "papers",
    "stats",
    "timing",
    "flops",
    "formats",
    "records",
    "manifest",
    "lock",
    "data",
    "plan",
    "joining",
}


def documented_levels() -> dict[str, int]:
    """Module or folder -> level, from the docstring of the package."""
    levels: dict[str, int] = {}
    for level, names in re.findall(r"^Level (\d)\s+(?:\(no torch\)\s+)?(.+)$", pldrepro.__doc__ or "", re.MULTILINE):
        for name in re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", names)):
            assert name not in levels
            levels[name] = int(level)
    return levels


LEVELS = documented_levels()
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit(path: Path) -> str:
    """The name under which a file stands in the levels: its module, or its folder."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, module_level_only: bool = False) -> set[str]:
    """Dotted names of what a file imports, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body if module_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "pldrepro" else {module}
    return names


def own(names: set[str]) -> set[str]:
    """The units of the package among the imported names."""
    return {name.split(".")[1] for name in names if name.startswith("pldrepro.")} - {"__version__"}


def test_every_module_has_a_level() -> None:
    assert {unit(path) for path in FILES} == set(LEVELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_its_own_level_or_above(path: Path) -> None:
    wrong = {name for name in own(imports(path)) if LEVELS[name] > LEVELS[unit(path)]}
    assert not wrong, f"{unit(path)} is on level {LEVELS[unit(path)]}"


def analysis() -> set[str]:
    """The units that the docstring puts right of the bar."""
    (line,) = re.findall(r"^Level 2\s+.*\|(.+)$", pldrepro.__doc__ or "", re.MULTILINE)
    return set(re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", line)))


def test_analysis_and_training_meet_in_no_module_with_torch() -> None:
    names = analysis()
    assert {"score", "tables", "figures", "claims", "report"} <= names
    for path in FILES:
        if unit(path) in names:
            assert not own(imports(path)) & TRAINING, unit(path)
        elif unit(path) in TRAINING:
            assert not own(imports(path)) & names, unit(path)


@pytest.mark.parametrize("name", sorted(WITHOUT_TORCH | analysis()))
def test_torch_is_imported_by_the_training_half_alone(name: str) -> None:
    files = [path for path in FILES if unit(path) == name]
    assert files
    for path in files:
        assert not {imported.split(".")[0] for imported in imports(path)} & {"torch"}, path
        assert not own(imports(path)) & TRAINING, path


def test_public_functions_have_docstrings() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        inner = {id(child) for node in nodes if isinstance(node, ast.FunctionDef) for child in ast.walk(node)} - {
            id(node) for node in nodes if node in tree.body
        }
        for node in nodes:
            if not node.name.startswith("_") and id(node) not in inner:
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"
