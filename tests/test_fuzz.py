"""Bad inputs: whatever is read gives a right result or an error that names the file, never another exception.

``mutated`` damages values that are known to be good; the readers under test may refuse the damage in one way only.
"""

from __future__ import annotations

import copy
import gzip
import json
import lzma
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pldrepro import files
from pldrepro.__main__ import main
from pldrepro.analysis.claims import claims
from pldrepro.analysis.inputs import read_evidence
from pldrepro.analysis.reported import load_papers
from pldrepro.config.data import DataSettings
from pldrepro.data.corpus import open_corpus
from pldrepro.data.glue import load_prepared
from pldrepro.data.images import open_images
from pldrepro.data.sources.text_files import FilesSource
from pldrepro.data.tasks import TASKS, Example
from pldrepro.errors import DataError, RecordError
from pldrepro.runs import step_times
from pldrepro.runs.folder import load_early, load_finetune, load_lambada, load_pretrain, load_probe, log_path
from tests.support import runs

FUZZ = {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
NAMES = ["", "arm", "model", "kind", "family", "bert", "pld", "none", "a b"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31, -(2**63), 2**63, 10**30]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(NAMES),
    st.text(max_size=8),
    st.sampled_from(["87/186", "\x00", "../../x", "x" * 300]),
)
VALUES = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(NAMES), part, max_size=3),
    max_leaves=5,
)


def places(values: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within mappings and lists."""
    found = [where] if where else []
    parts = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return found + [place for key, part in parts for place in places(part, (*where, key))]


def mutated(draw: Callable[[Any], Any], values: Any, new: Any = VALUES, most: int = 2) -> Any:
    """A copy in which a few values were removed, added, renamed, replaced or nested."""
    values = copy.deepcopy(values)
    for _ in range(draw(st.integers(1, most))):
        options = places(values)
        if not options:
            break
        *path, last = draw(st.sampled_from(options))
        owner = values
        for key in path:
            owner = owner[key]
        change = draw(st.sampled_from(["remove", "replace", "replace", "rename", "add", "nest"]))
        if change == "remove":
            del owner[last]
        elif change == "rename" and isinstance(owner, dict):
            owner[draw(st.sampled_from(NAMES))] = owner.pop(last)
        elif change == "add" and isinstance(owner[last], dict):
            owner[last][draw(st.sampled_from(NAMES))] = draw(new)
        elif change == "nest":
            owner[last] = [owner[last]]
        else:
            owner[last] = draw(new)
    return values


def spoiled(draw: Callable[[Any], Any], content: bytes) -> bytes:
    """Bytes that were cut, or of which some were replaced, doubled or put in."""
    at = draw(st.integers(0, len(content)))
    change = draw(st.sampled_from(["cut", "flip", "insert", "repeat", "empty"]))
    if change == "empty":
        return b""
    if change == "cut":
        return content[:at]
    if change == "repeat":
        return content[:at] + content[at : at + 40] + content[at:]
    more = draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"\x00", b"\r", b"\xff", b"NaN", b'"', b"\n"]))
    return content[:at] + more + content[at + (len(more) if change == "flip" else 0) :]


@contextmanager
def may_refuse(
    kind: type[Exception] | tuple[type[Exception], ...], *names: object, also: object = ""
) -> Iterator[None]:
    """The block may raise one kind of error, whose message is of a readable length and names one of ``names``."""
    try:
        yield
        return
    except kind as error:
        message = str(error)
    assert len(message) < 20_000
    assert any(str(name) in message for name in names), message
    assert str(also) in message


# ---- tables of GLUE, passages and text ----

PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n"), max_size=12).filter(
    lambda text: not text.endswith("\r")
)


@cache
def header_of(task: str) -> tuple[str, ...]:
    layout = TASKS[task].files
    return ("source", "label", "mark", "sentence") if not layout.has_header else ("index", *layout.columns, "more")


def rows_of(draw: Callable[[Any], Any], task: str) -> tuple[list[list[str]], list[Example]]:
    """Good rows of a task's table, and the examples that they must give."""
    layout, header, rows, expected = TASKS[task].files, header_of(task), [], []
    for _ in range(draw(st.integers(1, 6))):
        label = draw(st.sampled_from(layout.classes or ("0", "2.5", "5.000")))
        row = [draw(FIELDS) for _ in header]
        row[header.index(layout.columns[-1])] = label
        value = layout.classes.index(label) if layout.classes else float(label)
        texts = [row[header.index(name)] for name in layout.columns[:-1]]
        expected.append(Example(texts[0], texts[1] if TASKS[task].pair else None, value))
        rows.append(row)
    return ([list(header)] if layout.has_header else []) + rows, expected


def put_table(root: Path, task: str, content: bytes, suffix: str = "") -> FilesSource:
    shutil.rmtree(root / "glue", ignore_errors=True)
    folder = root / "glue" / TASKS[task].files.folder
    folder.mkdir(parents=True)
    (folder / f"train.tsv{suffix}").write_bytes(content)
    return FilesSource(DataSettings(source="files", root=str(root), lambada="l.jsonl", text=("*.txt*",)))


@given(data=st.data(), task=st.sampled_from(sorted(TASKS)), suffix=st.sampled_from(sorted(PACK)))
@settings(max_examples=50, **FUZZ)
def test_every_good_row_comes_back(data: st.DataObject, task: str, suffix: str, tmp_path: Path) -> None:
    rows, expected = rows_of(data.draw, task)
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    mark = data.draw(st.sampled_from(["", "\ufeff"])) if TASKS[task].files.has_header else ""
    text = mark + "".join("\t".join(row) + end for row in rows)
    if data.draw(st.booleans()):
        text = text.removesuffix(end)
    if not TASKS[task].files.has_header and rows[0][0].startswith("\ufeff"):
        return  # a mark is dropped from the first field, which holds no sentence
    source = put_table(tmp_path, task, PACK[suffix](text.encode()), suffix)
    assert source.glue(task, "train") == expected


@given(data=st.data(), task=st.sampled_from(sorted(TASKS)))
@settings(max_examples=80, **FUZZ)
def test_a_broken_row_is_named_and_none_is_left_out(data: st.DataObject, task: str, tmp_path: Path) -> None:
    layout = TASKS[task].files
    rows, expected = rows_of(data.draw, task)
    first = len(rows) - len(expected)
    number = data.draw(st.integers(first, len(rows) - 1))
    place = header_of(task).index(layout.columns[-1])
    change = data.draw(st.sampled_from(["fewer", "more", "label", "skipped", "blank"]))
    if change in ("fewer", "more"):
        rows[number] = rows[number][:-1] if change == "fewer" else [*rows[number], "x"]
    elif change == "blank":
        rows[number] = [""]
    else:
        rows[number][place] = (
            data.draw(st.sampled_from(["", "2", "-1", "nan", "1e0", "inf", "yes", " 1"])) if change == "label" else "-"
        )
        if rows[number][place] in layout.classes:
            return
    text = "".join("\t".join(row) + "\n" for row in rows)
    source = put_table(tmp_path, task, text.encode())
    if change == "skipped" and layout.skipped_label == "-":  # MNLI's rows without a label
        del expected[number - first]
        assert source.glue(task, "train") == expected
        return
    if task == "stsb" and change == "label" and rows[number][place] == "2":
        expected[number - first] = Example(expected[number - first].sentence1, expected[number - first].sentence2, 2.0)
        assert source.glue(task, "train") == expected
        return
    with pytest.raises(DataError, match=rf"train\.tsv: row {number + 1}: "):
        source.glue(task, "train")


@given(data=st.data(), task=st.sampled_from(sorted(TASKS)), suffix=st.sampled_from(sorted(PACK)))
@settings(max_examples=60, **FUZZ)
def test_damaged_tables_are_read_or_refused_by_name(
    data: st.DataObject, task: str, suffix: str, tmp_path: Path
) -> None:
    rows, _ = rows_of(data.draw, task)
    text = "".join("\t".join(row) + "\n" for row in rows).encode()
    packed = PACK[suffix](text if data.draw(st.booleans()) else spoiled(data.draw, text))
    content = data.draw(st.binary(max_size=60)) if data.draw(st.integers(0, 5)) == 0 else spoiled(data.draw, packed)
    source = put_table(tmp_path, task, content, suffix)
    with may_refuse(DataError, f"train.tsv{suffix}"):
        found = source.glue(task, "train")
        assert isinstance(found, list)
        assert all(isinstance(one, Example) for one in found)
        if not suffix and task != "mnli":
            lines = content.decode().rstrip("\n").split("\n")
            assert len(found) == len(lines) - TASKS[task].files.has_header


@given(data=st.data())
@settings(max_examples=50, **FUZZ)
def test_passages_are_read_or_refused_by_line(data: st.DataObject, tmp_path: Path) -> None:
    texts = data.draw(st.lists(FIELDS, min_size=1, max_size=5))
    lines = [json.dumps({"text": text}).encode() for text in texts]
    source = put_table(tmp_path, "rte", b"")
    (tmp_path / "l.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert list(source.lambada()) == texts
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = spoiled(data.draw, lines[number]).replace(b"\n", b" ")
    (tmp_path / "l.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    with may_refuse(DataError, f"l.jsonl: line {number + 1}", "l.jsonl: damaged"):
        found = list(source.lambada())
        assert len(found) == len(texts)
        assert found[:number] == texts[:number]


@given(data=st.data(), suffix=st.sampled_from([".txt", ".gz", ".xz", ".zst"]))
@settings(max_examples=50, **FUZZ)
def test_text_is_read_or_refused_by_name(data: st.DataObject, suffix: str, tmp_path: Path) -> None:
    for path in tmp_path.glob("a.txt*"):
        path.unlink()
    text = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=80)).encode()
    name = f"a.txt{suffix.removeprefix('.txt')}"
    packed = PACK[suffix.removeprefix(".txt")](text)
    (tmp_path / name).write_bytes(packed if data.draw(st.booleans()) else spoiled(data.draw, packed))
    source = put_table(tmp_path, "rte", b"")
    with may_refuse(DataError, name):
        documents = list(source.documents())
        assert all(documents)
        if (tmp_path / name).read_bytes() == packed:
            words = "".join(text.decode().removeprefix("\ufeff").split())
            assert "".join("".join(part.split()) for document in documents for part in document) == words


# ---- run folders ----

LOADERS: dict[str, Callable[[Path], Any]] = {
    "pretrain": load_pretrain,
    "finetune": load_finetune,
    "probe": load_probe,
    "lambada": load_lambada,
    "early": load_early,
    "calibration": step_times.load_calibration,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of every kind; of SBLD, so that there are analyses of sensitivity."""
    root = tmp_path_factory.mktemp("finished")
    found = {
        "pretrain": runs.write_pretrain(root, "sbld", 1, family="gpt", scores={"lambada_accuracy": 0.3}),
        "finetune": runs.write_finetune(root, "pld", 1, tasks=("rte", "mnli"), examples=10),
        "probe": runs.write_probe(root, "pld", 1),
        "early": runs.write_early(root, "pld", 1),
        "calibration": runs.write_calibration(root),
    }
    return {**found, "lambada": root / "runs/lambada/sbld/seed1", "root": root}


READ = {
    "pretrain": ("summary.json", "settings.json", "provenance.json", "metrics.jsonl"),
    "finetune": ("summary.json", "settings.json", "results.jsonl"),
    "probe": ("summary.json", "settings.json", "results.jsonl"),
    "lambada": ("summary.json",),
    "early": ("settings.json", "summary.json", "results.jsonl"),
    "calibration": ("summary.json",),
}


def damage(draw: Callable[[Any], Any], path: Path) -> None:
    """Mutate the JSON of a file, spoil its bytes, or put something else in its place."""
    content = path.read_bytes()
    change = draw(st.sampled_from(["values", "values", "values", "bytes", "gone", "folder"]))
    if change == "gone":
        path.unlink()
    elif change == "folder":
        path.unlink()
        path.mkdir()
    elif change == "bytes":
        path.write_bytes(spoiled(draw, content))
    elif path.suffix == ".json":
        path.write_text(json.dumps(mutated(draw, json.loads(content))), "utf-8")
    else:
        lines = content.decode().splitlines()
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = json.dumps(mutated(draw, json.loads(lines[at])))
        path.write_text("\n".join(lines) + "\n", "utf-8")


def is_in(read: Any, written: Any) -> bool:
    """Whether every value that a record was read with is the one written, or a default where none was."""
    if isinstance(written, dict) and isinstance(read, dict):
        return all(name not in written or is_in(value, written[name]) for name, value in read.items())
    if isinstance(written, list) and isinstance(read, list):
        return len(read) == len(written) and all(map(is_in, read, written))
    return bool(read == written)


@given(data=st.data(), kind=st.sampled_from(sorted(LOADERS)))
@settings(max_examples=150, **FUZZ)
def test_a_damaged_run_is_read_as_it_is_or_named_with_its_log(
    data: st.DataObject, kind: str, finished: dict[str, Path]
) -> None:
    with TemporaryDirectory() as root:
        folder = Path(root) / "results" / finished[kind].relative_to(finished["root"])
        shutil.copytree(finished[kind], folder)
        name = data.draw(st.sampled_from(READ[kind]))
        damage(data.draw, folder / name)
        with suppress(RecordError, OSError):  # half of the time as if it had been written like that
            if data.draw(st.booleans()):
                runs.resealed(folder)
        with may_refuse(RecordError, folder, also=log_path(folder)):
            run = LOADERS[kind](folder)
            assert is_in(run.summary.model_dump(mode="json"), json.loads((folder / "summary.json").read_bytes()))
            if kind == "pretrain":
                lines = (folder / "metrics.jsonl").read_bytes().splitlines()
                assert all(is_in(one.dump(), json.loads(line)) for one, line in zip(run.metrics, lines, strict=True))


STUDIED = load_papers()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study with everything, and its index.json."""
    root = tmp_path_factory.mktemp("study")
    found = runs.write_study(root, seeds=(1, 2))
    probes = [runs.write_probe(root, arm, 1) for arm in ("baseline", "pld")]
    levels = {(arm, seed, "ckp186"): 50.0 + seed for arm in runs.ARMS for seed in (1, 2)}
    runs.write_scores(root / "scores.csv", levels)
    listing = {
        "pretrain": [f"{path}/summary.json" for path in found["pretrain"]],
        "finetune": [f"{path}/summary.json" for path in found["finetune"]],
        "probes": [f"{path}/summary.json" for path in probes],
        "lambada": [],
        "early": [f"{runs.write_early(root, arm, 1)}/summary.json" for arm in ("baseline", "pld")],
        "calibration": f"{found['calibration']}/summary.json",
        "arms": runs.listed_tags("bert"),
    }
    files.write_json(root / "index.json", {"scores": str(root / "scores.csv"), "studies": [listing]})
    return root


@given(data=st.data())
@settings(max_examples=30, **FUZZ)
def test_a_damaged_evidence_names_what_is_wrong(data: st.DataObject, study: Path) -> None:
    path = study / "damaged.json"
    shutil.copy(study / "index.json", path)
    with may_refuse(RecordError, path, "runs/", ": "):
        if data.draw(st.booleans()):
            path.write_text(json.dumps(mutated(data.draw, json.loads(path.read_text()))), "utf-8")
        else:
            path.write_bytes(spoiled(data.draw, path.read_bytes()))
        assert read_evidence(path).pretrain


@given(data=st.data())
@settings(max_examples=8, **FUZZ)
def test_what_is_read_can_be_judged(data: st.DataObject, study: Path, tmp_path: Path) -> None:
    """Claims of a study of which one file was mutated: written, or refused in one line; nothing fails on the way."""
    copied = tmp_path / "study"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(study, copied)
    listing = (study / "index.json").read_text("utf-8")
    (copied / "index.json").write_text(listing.replace(str(study), str(copied)), "utf-8")
    files = sorted(path for path in (copied / "runs").rglob("*.json*") if path.name != "manifest.json")
    path = data.draw(st.sampled_from(files))
    damage(data.draw, path)
    with suppress(RecordError, OSError):
        runs.resealed(path.parent)
    with may_refuse((ValueError, RuntimeError, OSError), copied):  # what `main` turns into a line
        assert len(claims(read_evidence(copied / "index.json"), STUDIED)) > 10


# ---- prepared data ----


@given(data=st.data())
@settings(max_examples=30, **FUZZ)
def test_a_damaged_manifest_is_named(data: st.DataObject, corpus: Path, glue: Path, tmp_path: Path) -> None:
    kind, folder = data.draw(st.sampled_from([("corpus", corpus), ("glue", glue)]))
    copied = tmp_path / kind
    shutil.rmtree(copied, ignore_errors=True)
    copied.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.name != "manifest.json":
            (copied / path.name).symlink_to(path)
    shutil.copy(folder / "manifest.json", copied)
    damage(data.draw, copied / "manifest.json")
    with may_refuse((RecordError, DataError), copied):
        opened = open_corpus(copied) if kind == "corpus" else load_prepared(copied, "rte")
        assert opened is not None


# ---- a failed or missing run stops the table ----


@pytest.mark.parametrize(
    "verb", [["exhibits", "--tables", "table1"], ["exhibits", "--figures", "figure6"], ["claims"], ["report"]]
)
@pytest.mark.parametrize(
    "run", ["pretrain/pld/seed2", "finetune/pld/seed1/ckp87/glue", "probe/pld/seed1", "calibration"]
)
@pytest.mark.parametrize("state", ["missing", "failed"])
def test_a_missing_or_failed_run_stops_every_exhibit_and_is_named_with_its_log(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: Sequence[str], run: str, state: str
) -> None:
    text = (study / "index.json").read_text("utf-8")
    for folder in (study / "runs").iterdir():
        (tmp_path / "runs").mkdir(exist_ok=True)
        shutil.copytree(folder, tmp_path / "runs" / folder.name)
    (tmp_path / "index.json").write_text(text.replace(f"{study}/runs", f"{tmp_path}/runs"), "utf-8")
    folder = tmp_path / "runs" / run
    if state == "missing":
        shutil.rmtree(folder)
    else:
        (folder / "summary.json").unlink()
    more = ["--claims", "none.csv", "--tables", "none", "--figures", "none"] if verb[0] == "report" else []
    assert main(["make", *verb, "--index", str(tmp_path / "index.json"), *more, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"RecordError: {folder}: ")
    assert printed.err.count("\n") == 1
    assert f"log would be {log_path(folder)}" in printed.err or f"log, {log_path(folder)}" in printed.err
    assert str(tmp_path / "logs") in printed.err
    assert not (tmp_path / "out").exists()


def test_a_damaged_images_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]", "utf-8")
    with pytest.raises(RecordError, match=r"manifest\.json: .*run `prepare images` again"):
        open_images(tmp_path)
