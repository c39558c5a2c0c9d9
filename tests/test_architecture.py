"""One folder per stage: a folder imports only from those above it, modules never in a circle, torch only in training.

A row of ``FOLDERS`` for each folder, in the order in which data flows.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pldrepro
from pldrepro.config.arm import ROLES
from pldrepro.config.experiment import experiments_folder, read_experiments
from tests.support.source import imports

PACKAGE = Path(pldrepro.__file__).parent
SHARED = ("archives", "errors", "files", "records", "stats")
FOLDERS = (
    "policy", "config", "data", "models", "runs", "costs", "training", "evaluation", "analysis", "exhibits", "verbs",
    "__main__",
)  # fmt: skip
WITH_TORCH = {"models", "training", "evaluation"}
WITHOUT_MATPLOTLIB = set(FOLDERS) - {"exhibits"}
# What a folder must not know although it is above: the two halves meet in runs/.
NEVER = {
    "analysis": {"models", "training", "evaluation"},
    "exhibits": {"models", "training", "evaluation"},
    "runs": {"models"},
    "costs": {"models"},
}
LONGEST = 400  # lines of a module
WHOLE = {"policy/drop.py"}  # longer on purpose: the heart of the suite, read as one page
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit(path: Path) -> str:
    """The stage of a file: its folder, or its own name where it is in none."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    """Dotted name of a file."""
    return ".".join(("pldrepro", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def own_imports(path: Path, module_level_only: bool = False) -> set[str]:
    """The modules of the package that a file imports."""
    found = set()
    for name in imports(path, module_level_only):
        if name.startswith("pldrepro."):
            found.add(name if name in MODULES else name.rpartition(".")[0])
    return found - {"pldrepro"}


def above(name: str) -> set[str]:
    """The stages that one may import from, itself among them."""
    if name in SHARED:
        return set(SHARED)
    return {*SHARED, *FOLDERS[: FOLDERS.index(name) + 1]} - NEVER.get(name, set())


def test_every_file_belongs_to_a_stage() -> None:
    assert {unit(path) for path in FILES} == {*SHARED, *FOLDERS}


@pytest.mark.parametrize("name", [*SHARED, *FOLDERS])
def test_a_stage_imports_only_from_stages_above_it(name: str) -> None:
    arrows = {
        f"{module(path)} -> {other}"
        for path in FILES
        if unit(path) == name
        for other in own_imports(path)
        if unit(MODULES[other]) not in above(name)
    }
    assert not arrows


def test_no_module_imports_itself_in_a_circle() -> None:
    TopologicalSorter({module(path): own_imports(path) - {module(path)} for path in FILES}).prepare()


@pytest.mark.parametrize("name", [*SHARED, *FOLDERS])
def test_torch_is_imported_in_training_and_matplotlib_in_exhibits(name: str) -> None:
    forbidden = (set() if name in WITH_TORCH else {"torch"}) | ({"matplotlib"} if name in WITHOUT_MATPLOTLIB else set())
    for path in FILES:
        if unit(path) == name:
            assert not {imported.split(".")[0] for imported in imports(path)} & forbidden, path


@pytest.mark.parametrize("path", FILES, ids=module)
def test_modules_fit_a_reader(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) not in WHOLE:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_public_functions_have_docstrings() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert len(ast.get_docstring(tree) or "") > 15, path
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        inner = {id(child) for node in nodes if isinstance(node, ast.FunctionDef) for child in ast.walk(node)} - {
            id(node) for node in nodes if node in tree.body
        }
        for node in nodes:
            if not node.name.startswith("_") and id(node) not in inner:
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"


TESTS = sorted(Path(__file__).parent.rglob("*.py"))


def test_tests_share_only_what_is_in_support() -> None:
    for path in TESTS:
        assert all(name.startswith("tests.support.") for name in imports(path) if name.startswith("tests.")), path


def test_folders_of_tests_are_those_of_the_package() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name != "__pycache__"}
    stages = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert folders - stages == {"benchmarks", "cluster", "faults", "support", "workflow"}


# What makes a number of several: none of it is named in the exhibits, not even to be passed on.
ESTIMATORS = {
    "mean", "fmean", "average", "median", "std", "stdev", "var", "sem", "quantile", "percentile", "hypot", "sqrt",
    "exp", "prod", "cumsum", "cumprod", "corr", "corrcoef", "pivot_table", "agg",
}  # fmt: skip
STATS = {"Estimate", "CONFIDENCE", "FEWEST"}  # the type of a number, and how many it takes for an interval


@pytest.mark.parametrize("path", sorted((PACKAGE / "exhibits").rglob("*.py")), ids=module)
def test_exhibits_estimate_nothing(path: Path) -> None:
    """Every number is made in the analysis: what is laid out knows no function of ``stats``, and takes no mean."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    assert not {name.split(".")[0] for name in imports(path)} & {"math", "statistics", "scipy"}
    of_stats = {name for name in imports(path) if name.startswith("pldrepro.stats")}
    assert of_stats <= {f"pldrepro.stats.{name}" for name in STATS}
    assert not {node.attr for node in nodes if isinstance(node, ast.Attribute)} & ESTIMATORS


def test_no_arm_is_known_by_name_where_it_is_shown() -> None:
    """The analysis and the exhibits ask for roles, treatments and places; only the names of roles may be there."""
    arms = {arm for family in ("bert", "gpt") for arm in read_experiments(experiments_folder(family))} - {*ROLES}
    arms -= {"random", "linear", "cosine"}  # also names of rankings, schedules and measures of sensitivity
    for path in FILES:
        if unit(path) in ("analysis", "exhibits"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not {text for text in texts if isinstance(text, str)} & arms, path
