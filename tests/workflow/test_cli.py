"""The command line: what the verbs print, one line and status 1 for an error, and imports that stay light."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pldrepro import __version__, files
from pldrepro.__main__ import STOPPED, VERBS, main
from pldrepro.config.run import RunSettings
from pldrepro.config.study import load_study
from pldrepro.runs import lock
from pldrepro.runs.folder import load_finetune, load_pretrain
from pldrepro.runs.lock import locked, workflow_runs

SMOKE = ["--configfile", "config/smoke.yaml"]
ANALYSIS = (
    "analysis.results", "analysis.glue_scores", "analysis.claims", "exhibits.tables", "exhibits.figures",
    "exhibits.report",
)  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False)


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The only line that a failing command prints."""
    assert main(list(arguments)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


# ---- verbs that print ----


def test_settings_prints_what_load_study_resolves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "settings", *SMOKE, "--experiment", "pld", "--seed", "2"]) == 0
    printed = RunSettings.model_validate_json(capsys.readouterr().out)
    assert printed == load_study(Path("config/smoke.yaml")).run("pld", 2)


def test_overrides_reach_the_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changes = [
        "--config",
        f"data_root={tmp_path}",
        "scale=other",
        'arms=["baseline","random"]',
        "probe_arms=[]",
        "contrast_arms=[]",
    ]
    changes += ["seeds=[7]"]
    assert main(["study", "settings", *SMOKE, *changes, "--experiment", "random"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["scale"], printed["arm"]) == ("other", "random")
    assert str(tmp_path) not in json.dumps(printed)  # a path of the machine is not what a run is


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "explain", "--experiment", "pld", "--step", "100000"]) == 0
    text = capsys.readouterr().out
    assert "dialect paper_alg1: schedule exponential, allocation linear_from_first, residual scale inverse" in text
    assert "theta(t) = 0.5000" in text
    assert "expected depth 9.25 of 12" in text
    rows = [line.split() for line in text.splitlines()[-12:]]
    assert [row[0] for row in rows] == [str(layer) for layer in range(1, 13)]
    assert rows[0][1:3] == ["1.0000", "kept"]
    assert rows[11][1] == "0.5417"


@pytest.mark.parametrize("scale", ["smoke", "demo", "mini", "gpu", "paper"])
def test_plan(capsys: pytest.CaptureFixture[str], scale: str) -> None:
    assert main(["study", "plan", "--configfile", f"config/{scale}.yaml", "--device", "h100"]) == 0
    text = capsys.readouterr().out
    for word in (
        "parameters",
        "steps",
        "tokens",
        "kept depth",
        "FLOPs",
        "device time",
        "disk",
        "h100",
        "pld",
        "baseline",
    ):
        assert word in text


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_and_every_argument_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    function, arguments = VERBS[name]
    assert function.__name__ == name.replace(" ", "_")
    assert all(one.options["help"] for one in arguments)
    with pytest.raises(SystemExit) as stopped:
        main([*name.split(), "--help"])
    assert stopped.value.code == 0
    assert f"usage: python -m pldrepro {name} " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["study"]])
def test_without_a_verb_those_that_there_are_are_listed(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    listed = {name.split()[len(arguments)] for name in VERBS if name.split()[: len(arguments)] == arguments}
    assert listed <= set(capsys.readouterr().out.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"pldrepro {__version__}\n"


# ---- the training half, through the command line ----


def test_from_corpus_to_predictions(
    corpus: Path, glue: Path, tiny_run: Callable[..., RunSettings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, settings = tmp_path / "run", tiny_run().model_dump_json()
    pretrain = ["run", "pretrain", "--settings", settings, "--data", str(corpus), "--out", str(out)]
    assert main([*pretrain, "--max-seconds", "0"]) == STOPPED == 75
    assert "OutOfTimeError: stopped after 0 s at step 1 of 16" in capsys.readouterr().err
    assert main(pretrain) == 0
    assert load_pretrain(out).summary.steps == 16
    (tmp_path / "finetune.yaml").write_text("{learning_rates: [1.0e-3], seeds: [1], epochs: 1, groups: {one: [rte]}}")
    arguments = ["--run", str(out), "--checkpoint", "ckp87", "--group", "one", "--glue", str(glue)]
    assert (
        main(
            ["run", "finetune", "--settings", str(tmp_path / "finetune.yaml"), *arguments, "--out", str(tmp_path / "f")]
        )
        == 0
    )
    assert load_finetune(tmp_path / "f").summary.runs == 1


@pytest.mark.parametrize("saved", [None, "resume", "parts"])
def test_an_interruption_says_from_what_a_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, saved: str | None
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pldrepro.analysis.glue_scores.write_scores", interrupt)
    if saved is not None:
        (tmp_path / saved).mkdir()
    assert main(["make", "scores", "--out", str(tmp_path)]) == 130
    assert (str(tmp_path / str(saved)) in capsys.readouterr().err) == (saved is not None)


def test_a_folder_is_unlocked_where_no_workflow_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    commands: list[list[str]] = []
    status = [0]

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, status[0])

    monkeypatch.setattr(subprocess, "run", run)
    assert main(["study", "unlock"]) == 0
    assert commands == []
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").touch()
    with workflow_runs():
        assert "LockedError" in failure(capsys, "study", "unlock")
        with locked(lock.WORKFLOWS / "another-1"):
            pass  # with another configuration; it has ended
        assert "LockedError" in failure(capsys, "study", "unlock")
    assert main(["study", "unlock"]) == 0
    assert [command[-2:] for command in commands] == [["--unlock", "--quiet"]]
    status[0] = 1
    assert str(tmp_path) in failure(capsys, "study", "unlock")


# ---- errors ----


def test_an_error_is_one_line_and_status_1() -> None:
    done = run("-m", "pldrepro", "study", "plan", *SMOKE, "--device", "tpu")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("SettingsError: device 'tpu' is not in config/devices.yaml; allowed: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["study", "settings", "--experiment", "pld"], ["--help"]])
def test_a_reader_that_has_left_is_no_error(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pldrepro", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""


def test_traceback_on_request() -> None:
    done = run("-m", "pldrepro", "--traceback", "study", "plan", *SMOKE, "--device", "tpu")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "plan", "--configfile", "config/none.yaml"], "config/none.yaml: no such file"),
        (["study", "plan", "--configfile", "config/dmeo.yaml"], "no such file; did you mean demo.yaml?"),
        (
            ["study", "explain", *SMOKE, "--experiment", "plb", "--step", "1"],
            "no experiment plb",
        ),
        (["study", "explain", *SMOKE, "--experiment", "pld", "--step", "40"], "step 40; allowed: 0 to 39"),
        (["study", "plan", *SMOKE, "--config", "seeds"], "--config seeds: expected KEY=VALUE"),
        (
            ["study", "plan", *SMOKE, "--config", "sead=[1]"],
            "sead: unknown key; did you mean seeds? allowed here: scale, description",
        ),
        (["run", "calibrate", "--settings", "{", "--out", "x"], "settings: not readable as JSON"),
        (["run", "calibrate", "--settings", "{}", "--out", "x"], "settings: runs: missing; calibration: missing"),
    ],
)
def test_errors_of_users(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert message in failure(capsys, *arguments)


@pytest.mark.parametrize("seconds", ["-5", "nan", "soon"])
def test_a_time_that_cannot_be_is_refused_at_once(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "pretrain", "--settings", "{}", "--data", "x", "--out", "x", f"--max-seconds={seconds}"])
    assert stopped.value.code == 2
    assert "--max-seconds" in capsys.readouterr().err


def test_a_missing_corpus_is_named(
    capsys: pytest.CaptureFixture[str], tiny_run: Callable[..., RunSettings], tmp_path: Path
) -> None:
    place = [str(tmp_path / "corpus"), "--out", str(tmp_path / "run")]
    message = failure(capsys, "run", "pretrain", "--settings", tiny_run().model_dump_json(), "--data", *place)
    assert f"{tmp_path}/corpus/manifest.json: no such file" in message
    assert not (tmp_path / "run").exists()


# ---- imports ----


def imported(module: str, *among: str) -> list[str]:
    """Which of the packages are imported by importing a module, in a fresh interpreter."""
    done = run("-c", f"import sys, json, {module}; print(json.dumps([m for m in {among} if m in sys.modules]))")
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout)
    return names


def test_pre_training_imports_little() -> None:
    heavy = ("transformers", "datasets", "evaluate", "tokenizers", "pandas", "matplotlib", "scipy", "sklearn")
    assert imported("pldrepro.training.pretrain", *heavy, "snakemake", "jinja2", "pyarrow", "torch") == ["torch"]


def test_settings_and_plan_need_neither_torch_nor_numpy() -> None:
    assert imported("pldrepro.__main__, pldrepro.costs.plan_text", "torch", "numpy", "pydantic") == ["pydantic"]


def test_analysis_does_without_torch() -> None:
    lines = [f"import pldrepro.{name}; assert 'torch' not in sys.modules, '{name}'" for name in ANALYSIS]
    done = run("-c", "\n".join(["import sys", *lines]))
    assert done.returncode == 0, done.stderr


def test_an_installed_package_finds_the_files_next_to_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As from a wheel: the package has no config of its own, and the current folder has none."""
    configfile = Path("config/smoke.yaml").resolve()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_roots", [tmp_path])
    assert main(["study", "plan"]) == 1
    capsys.readouterr()
    for verb in (["plan"], ["settings", "--experiment", "pld"]):
        assert main(["study", *verb, "--configfile", str(configfile)]) == 0
        assert len(capsys.readouterr().out) > 100
