"""What comes from outside is data: nothing unpickled, nothing run, pinned, checked by hash, within limits, quoted."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard
from PIL import Image

from pldrepro.config.base import parse_yaml, read_yaml, validate
from pldrepro.config.data import DataSettings, HubImages, HubSettings, HubText, ImageDataSettings
from pldrepro.config.study import RecordedSettings, StudySettings, load_study
from pldrepro.data.corpus import prepare_corpus
from pldrepro.data.glue import prepare_glue
from pldrepro.data.images import prepare_images
from pldrepro.data.sources import hub, image_files
from pldrepro.data.sources.hub import CONVERTED, check_pinned
from pldrepro.data.sources.image_files import decode
from pldrepro.data.sources.text_files import FilesSource, read_lines
from pldrepro.errors import DataError, SettingsError
from tests.support.repository import copy_repository
from tests.support.source import imports

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = [
    path for folder in ("pldrepro", "tests", "benchmarks") for path in sorted((REPOSITORY / folder).rglob("*.py"))
]
RULES = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "workflow").rglob("*.smk"))]
CODE = [path for path in (*PYTHON, *RULES) if path != Path(__file__).resolve()]

# ---- nothing that is read is run ----

RUNS_WHAT_IT_READS = (
    r"\btorch\.(load|save)\(|allow_pickle=True|yaml\.(load|load_all|unsafe_load|full_load)\(|trust_remote_code=True"
    r"|(?<![.\w])eval\(|os\.system\(|shell=True|pd\.read_pickle|\bread_pickle\(|\.extractall\(|\.extract\("
)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_is_unpickled_and_no_text_is_run(path: Path) -> None:
    if path.suffix == ".py":
        assert not imports(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    text = path.read_text(encoding="utf-8")
    assert not re.findall(RUNS_WHAT_IT_READS, text)
    assert path.parent.name == "tests" or not re.search(r"(?<![.\w])exec\(", text)  # a test runs the code of docs/


def test_yaml_cannot_name_types_or_grow_without_end(tmp_path: Path) -> None:
    for text in ("!!python/object/apply:os.mkdir [x]", "a: !!binary eA==", "!x {a: 1}"):
        with pytest.raises(SettingsError, match=r"a file: line 1: a tag, an anchor or alias within"):
            parse_yaml(text, "a file")
    laughs = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    with pytest.raises(SettingsError, match="line 2: a tag, an anchor or alias within"):
        parse_yaml(f"a0: &a0 [x]\n{laughs}", "a file")
    with pytest.raises(SettingsError, match="more than 40 values within each other"):
        parse_yaml("[" * 100_000, "a file")
    assert parse_yaml("a: &a [1]\nb: *a", "a file") == {"a": [1], "b": [1]}


# ---- downloads are pinned by revision, and what comes of them can be demanded by hash ----


def hub_entries(values: Any) -> list[dict[str, Any]]:
    """Every mapping of a configuration that names a data set of the hub."""
    if isinstance(values, list):
        return [entry for value in values for entry in hub_entries(value)]
    if not isinstance(values, dict):
        return []
    found = [entry for value in values.values() for entry in hub_entries(value)]
    if "glue_path" in values or "glue_revision" in values:
        found.append({"path": values.get("glue_path", "nyu-mll/glue"), "revision": values.get("glue_revision")})
    return found + ([values] if "path" in values and "/" in str(values["path"]) else [])


def test_every_shipped_data_set_of_the_hub_is_pinned() -> None:
    entries = [
        entry for path in sorted((REPOSITORY / "config").glob("*.yaml")) for entry in hub_entries(read_yaml(path))
    ]
    assert len(entries) >= 10
    for entry in entries:
        assert entry["revision"] == CONVERTED or re.fullmatch("[0-9a-f]{40}", entry["revision"]), entry
        check_pinned(entry["path"], entry["revision"], "data.hub", "path", "revision")


@pytest.mark.parametrize("revision", ["main", "v1.0", "0123456", "refs/pr/1", "F" * 40])
def test_a_revision_that_can_move_is_refused(revision: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"data.hub.text.0.revision: {revision}: a name that can move; allowed: the 40"
    ):
        hub.HubSource(HubSettings(text=(HubText(path="a/b", revision=revision),)))
    with pytest.raises(SettingsError, match=r"data.hub.revision: .*: a name that can move"):
        image_files.HubSource(HubImages(path="a/b", revision=revision), 8)


def test_prepared_data_that_are_not_what_is_demanded_are_refused_with_both_hashes(tmp_path: Path) -> None:
    data = {
        "miniature": {"num_documents": 60, "train_examples": 8, "dev_examples": 8},
        "vocab_size": 128,
        "validation_ratio": 10,
    }

    def corpus(**more: Any) -> str:
        settings = DataSettings.model_validate({**data, **more})
        return str(prepare_corpus(settings, tmp_path / "corpus", workers=1, progress=False)["hash"])

    right = corpus()
    with pytest.raises(DataError, match=rf"corpus: prepared data with hash {right}; data_hash demands {'0' * 64}"):
        corpus(hash="0" * 64)
    assert not (tmp_path / "corpus/manifest.json").exists()
    assert corpus(hash=right) == right
    glue = DataSettings.model_validate({**data, "glue_hash": "0" * 64})
    with pytest.raises(DataError, match=r"glue: prepared data with hash [0-9a-f]{64}; glue_hash demands 000"):
        prepare_glue(glue, ("rte",), 32, tmp_path / "corpus", tmp_path / "glue", progress=False)
    assert not (tmp_path / "glue/manifest.json").exists()
    images = ImageDataSettings(kind="images", image_size=8, hash="0" * 64)
    with pytest.raises(DataError, match=r"images: prepared data with hash [0-9a-f]{64}; data_hash demands 000"):
        prepare_images(images, tmp_path / "images", progress=False)
    assert not (tmp_path / "images/manifest.json").exists()


def test_hashes_belong_to_the_preparation_and_not_to_what_a_run_is() -> None:
    plain = load_study(REPOSITORY / "config/mini.yaml")
    study = load_study({**read_yaml(REPOSITORY / "config/mini.yaml"), "data_hash": "0" * 64, "glue_hash": "1" * 64})
    data = study.data()
    assert isinstance(data, DataSettings)
    assert (data.hash, data.glue_hash) == ("0" * 64, "1" * 64)
    assert study.run("pld", 1) == plain.run("pld", 1)


# ---- archives and compressed files ----


def picture(size: tuple[int, int] = (8, 8), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def with_entry(archive: zipfile.ZipFile, name: str, content: bytes = b"", mode: int = stat.S_IFREG) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content or picture())


HOSTILE: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "up": (lambda z: with_entry(z, "../cat/a.png"), r"\.\./cat/a\.png: a path that leads out of the archive"),
    "up within": (lambda z: with_entry(z, "cat/../../a.png"), "a path that leads out of the archive"),
    "absolute": (lambda z: with_entry(z, "/cat/a.png"), "/cat/a.png: a path that leads out of the archive"),
    "backslash": (lambda z: with_entry(z, "cat\\..\\a.png"), "a path that leads out of the archive"),
    "link": (lambda z: with_entry(z, "cat/a.png", b"/etc/passwd", stat.S_IFLNK), "cat/a.png: a link or a device"),
    "twice": (lambda z: (with_entry(z, "cat/a.png"), with_entry(z, "cat/a.png"))[0], "cat/a.png: stands there twice"),
    "bomb": (lambda z: with_entry(z, "cat/a.bmp", bytes(5_000_000)), r"5000000 bytes packed into \d+; allowed: 200"),
    "large": (lambda z: with_entry(z, "cat/a.bmp", bytes(70_000_000)), "70000000 bytes; allowed: 64000000 in an image"),
    "no image": (lambda z: with_entry(z, "cat/a.png", b"MZ no image"), "damaged or not an image: not one of"),
    "another decoder": (lambda z: with_entry(z, "cat/a.png", picture(kind="EPS")), "not an image: not one of JPEG"),
    "pixels": (lambda z: with_entry(z, "cat/a.png", picture((20_000, 3_000), mode="1")), "20000 x 3000 pixels"),
    "narrow": (lambda z: with_entry(z, "cat/a.png", picture((1, 2_000_000))), "1 x 2000000 pixels; allowed: 50000000"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_with_archive_and_entry(tmp_path: Path, name: str) -> None:
    put, message = HOSTILE[name]
    for split in ("train", "test"):
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            with_entry(archive, "ant/b.png")
            with_entry(archive, "cat/b.png")
            if split == "train":
                put(archive)
    settings = ImageDataSettings(
        kind="images", source="files", root=str(tmp_path), train="train.zip", validation="test.zip", image_size=8
    )
    with pytest.raises(DataError, match=rf"train\.zip: .*{message}"):
        prepare_images(settings, tmp_path / "out", progress=False)
    assert {path.name for path in tmp_path.iterdir()} <= {"train.zip", "test.zip", "out"}


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        with_entry(archive, "cat/a.png")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # flag of the central directory
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.zip: cat/a\.png: encrypted; allowed: entries without a password"):
        image_files._by_class(path)


def test_an_image_at_the_limits_is_read() -> None:
    assert decode(picture((64, 640)), 8, "here").shape == (8, 8, 3)


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".zst": zstandard.compress,
}


@pytest.mark.parametrize("suffix", PACK)
def test_a_compressed_bomb_is_refused_in_bounded_memory(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pldrepro.data.sources.text_files.MAX_LINE_BYTES", 1_000_000)
    size = 200_000_000 if suffix == ".zst" else 50_000_000
    (tmp_path / f"a{suffix}").write_bytes(PACK[suffix](b"fine\n" + bytes(size)))
    assert (tmp_path / f"a{suffix}").stat().st_size < size / 500
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"a{suffix}: line 2 is too long; allowed: 1000000 bytes"):
        list(read_lines(tmp_path / f"a{suffix}"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.45 * size


def test_a_table_that_is_held_in_memory_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pldrepro.data.sources.text_files.MAX_TABLE_CHARACTERS", 1000)
    (tmp_path / "glue/SST-2").mkdir(parents=True)
    (tmp_path / "glue/SST-2/dev.tsv.gz").write_bytes(gzip.compress(b"sentence\tlabel\n" + b"fine\t1\n" * 500))
    (tmp_path / "l.jsonl").write_bytes(b'{"text": "a b"}\n' * 500)
    source = FilesSource(DataSettings(source="files", root=str(tmp_path), lambada="l.jsonl"))
    with pytest.raises(DataError, match=r"dev\.tsv\.gz: line \d+: allowed: 1000 characters"):
        source.glue("sst2", "dev")
    with pytest.raises(DataError, match=r"l\.jsonl: line \d+: allowed: 1000 characters"):
        list(source.lambada())


# ---- no shell is built from values that are not quoted ----

SAFE = {"threads"}  # integers
SAFE |= {"params.length"}


def shell_texts(path: Path) -> list[str]:
    """The text of every shell directive of a file of rules."""
    found = re.findall(r'^    shell:\n((?:        ".*"\n)+)', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == path.read_text(encoding="utf-8").count("shell:")
    return ["".join(re.findall(r'^        "(.*)"$', text, re.MULTILINE)) for text in found]


def test_shell_directives_quote_every_value_of_the_configuration() -> None:
    constrained = set(re.findall(r'^    (\w+)="\[A-Za-z0-9_\.-\]\+",$', RULES[0].read_text() + "".join(
        path.read_text(encoding="utf-8") for path in RULES), re.MULTILINE))  # fmt: skip
    assert {"arm", "checkpoint", "group"} <= constrained
    texts = [text for path in RULES for text in shell_texts(path)]
    assert len(texts) >= 15
    for text in texts:
        for placeholder in re.findall(r"{([^{}]+)}", text):
            wildcard = placeholder.removeprefix("wildcards.")
            safe = placeholder in SAFE or (wildcard != placeholder and wildcard in constrained | {"seed"})
            assert safe or placeholder.endswith(":q"), text
        assert not re.search(r"\beval\b|\bbash -c\b|`", text)


@pytest.mark.parametrize("name", ["", "-rf", "a b", "a;b", "$(x)", "../up", "a/b", "a\n", "{a}", "é", "a" * 101, "'"])
def test_names_are_letters_and_digits(name: str) -> None:
    values = {**read_yaml(REPOSITORY / "config/smoke.yaml"), "companions": {}}
    for change in (
        {"scale": name}, {"arms": ["baseline", name]}, {"companions": {name: "config/smoke_gpt.yaml"}},
        {"finetune": {**values["finetune"], "groups": {name: ["rte"]}}}, {"probe_arms": [name]},
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=next(iter(change))):
            load_study({**values, **change})


@pytest.mark.parametrize("results", ["-x", "a{b}", "a\nb", "a\x00b", "\x1b[2J"])
def test_a_results_folder_that_the_workflow_cannot_name_is_refused(results: str) -> None:
    values = {**read_yaml(REPOSITORY / "config/smoke.yaml"), "results": results}
    with pytest.raises(SettingsError, match="results"):
        validate(StudySettings, values, "configuration")
    with pytest.raises(SettingsError, match="results"):
        validate(
            RecordedSettings,
            {"scale": "recorded", "description": "", "results": results, "recorded": {"a": ["b"]}},
            "configuration",
        )


QUOTES = 'x\'; touch {0}1; "$(touch {0}2)" `touch {0}3` & '


def test_a_hostile_configuration_is_data_to_the_shell(tmp_path: Path) -> None:
    """Quotes, spaces, ; and $( ) in the folders, the patterns and the texts: two jobs run, and nothing else does."""
    (tmp_path / "repository").mkdir()
    folder = copy_repository(tmp_path / "repository")
    root, results = tmp_path / QUOTES.format("A"), QUOTES.format("B")
    pattern = QUOTES.format("C")
    root.mkdir()
    (root / f"{pattern}.txt").write_text("\n\n".join(f"the cat sat on mat {n}" for n in range(60)), "utf-8")
    smoke = read_yaml(folder / "config/smoke.yaml")
    data = {
        **smoke["settings"]["data"],
        "source": "files",
        "text": [f"{pattern}*"],
        "vocab_size": 64,
        "validation_ratio": 5,
    }
    values = {
        **smoke, "results": results, "data_root": str(root), "description": QUOTES.format("D"), "companions": {},
        "settings": {**smoke["settings"], "data": data},
    }  # fmt: skip
    (folder / "hostile.yaml").write_text(yaml.safe_dump(values), "utf-8")
    before = {path.name for path in folder.iterdir()}
    targets = [f"{results}/data/corpus/manifest.json", f"{results}/runs/settings/pld-seed1.json"]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "hostile.yaml"]
    environment = {
        **os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    for arguments in (["-n"], ["--", *targets]):
        done = subprocess.run(
            [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert all((folder / target).is_file() for target in targets)
    assert {path.name for path in folder.iterdir()} - before <= {results, ".snakemake"}
    assert not [path for path in tmp_path.rglob("*") if re.fullmatch("[ABCD][123]", path.name)]
