"""The whole workflow at smoke scale, in a copy of the repository: from the generated language to the report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

from pldrepro.analysis.inputs import read_evidence
from pldrepro.analysis.reported import load_papers, paper_of
from pldrepro.exhibits.chosen import chosen
from pldrepro.exhibits.figures import FIGURES
from pldrepro.exhibits.tables import TABLES, build
from pldrepro.files import read_json
from tests.support.repository import copy_repository, environment, planned, snakemake

SMOKE = ("--configfile", "config/smoke.yaml")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_repository(tmp_path_factory.mktemp("repository"))
    snakemake(folder, "--cores", "2", *SMOKE)
    return folder


def test_the_study_ends_with_verdicts_and_an_offline_report(study: Path) -> None:
    claims = pd.read_csv(study / "results/smoke/claims.csv")
    assert {"PLD", "SBLD (our reading)"} <= set(claims["paper"])
    assert claims.set_index("claim").loc["pld.time_per_sample", "n"] == 2
    page = (study / "results/smoke/report.html").read_text("utf-8")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    for name in ("table1", "table2", "table3"):
        for suffix in ("csv", "md", "tex"):
            assert (study / f"results/smoke/tables/{name}.{suffix}").stat().st_size > 100
    drawn = [name for name in FIGURES if (study / f"results/smoke/figures/{name}.csv").read_text("utf-8").strip()]
    assert {"finding", "figure7"} <= set(drawn)
    assert page.count("data:image/svg+xml;base64,") == len(drawn)
    assert "What the reviews of the PLD paper asked" in page


def test_the_companions_are_studies_beside_the_first(study: Path) -> None:
    claims = pd.read_csv(study / "results/smoke/claims.csv").set_index("claim")
    assert claims.loc["sbld.time", "n"] == 1
    assert not pd.isna(claims.loc["sbld.swin_top5", "measured"])
    for name, prepared in (("gpt", "corpus"), ("images", "images")):
        folder = study / "results/smoke" / name
        assert (folder / f"data/{prepared}/manifest.json").is_file()
        summary = read_json(folder / "runs/pretrain/sbld/seed1/summary.json")
        assert summary["analysis_passes"] > 0
    listing = read_json(study / "results/smoke/index.json")
    assert [len(one["pretrain"]) for one in listing["studies"]] == [10, 4, 3]


def test_a_budget_arm_ends_when_plds_checkpoint_does(study: Path) -> None:
    folder = study / "results/smoke/runs/pretrain"
    budget = read_json(folder / "baseline_at_ckp100/seed1/summary.json")["reference_seconds"]
    spent = read_json(folder / "pld/seed1/summary.json")["checkpoints"]["ckp100"]["reference_seconds"]
    # 22 steps of two layers: what was drawn differs from what was expected by a step or so.
    assert budget == pytest.approx(spent, rel=0.25)


def test_every_exhibit_is_a_target_and_a_finished_study_has_nothing_to_do(study: Path) -> None:
    names = {*TABLES, *FIGURES, "all", "claims", "reviews", "report", "tables", "figures"}
    assert planned(study, *names, *SMOKE) == {}


def test_only_what_a_change_touches_runs_again(study: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load((study / "config/smoke.yaml").read_text("utf-8"))

    def after(**changes: object) -> dict[str, int]:
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump({**settings, **changes}), "utf-8")
        return planned(study, "--configfile", str(path))

    seed_more = after(seeds=[1, 2, 3])
    assert (seed_more["pretrain"], seed_more["finetune"], seed_more["probe"]) == (5, 7, 3)
    assert (seed_more["score_contrasts"], "contrasts_items" in seed_more) == (2, False)
    assert "corpus" not in seed_more
    assert "calibrate" not in seed_more
    longer = {**settings["settings"], "training": {**settings["settings"]["training"], "num_steps": 44}}
    assert after(settings=longer)["pretrain"] == 8  # those of the companions are left alone
    gentler = {**settings["finetune"], "epochs": 2}
    jobs = after(finetune=gentler)
    assert jobs["finetune"] == 14
    assert not {"pretrain", "probe", "score_contrasts"} & set(jobs)


def test_exhibits_made_of_their_own_runs_are_those_made_of_all(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pldrepro/config/exhibits.py does not declare, an exhibit must not read."""
    monkeypatch.chdir(study)
    evidence, papers, results = read_evidence(Path("results/smoke/index.json")), load_papers(), Path("results/smoke")
    different = [
        name
        for name in TABLES
        if build(name, evidence, papers)[0].to_csv(index=False) != (results / f"tables/{name}.csv").read_text("utf-8")
    ]
    for name in FIGURES:
        _, data, _ = FIGURES[name](chosen("figures", name, evidence), paper_of(name, papers))
        if data.to_csv(index=False) != (results / f"figures/{name}.csv").read_text("utf-8"):
            different.append(name)
    assert different == []
    plt.close("all")


def test_what_is_lost_is_made_again(study: Path, tmp_path: Path) -> None:
    results = shutil.copytree(study, tmp_path / "copy") / "results/smoke"
    for lost in ("scores.csv", "claims.csv"):
        (results / lost).unlink()
    jobs = planned(tmp_path / "copy", "claims", *SMOKE)
    assert (jobs["make_scores"], jobs["make_claims"], "finetune" in jobs) == (1, 1, False)
    shutil.rmtree(results / "runs/pretrain/pld/seed1")
    assert planned(tmp_path / "copy", "claims", *SMOKE)["pretrain"] == 1


def test_an_edited_exhibit_is_made_again_without_training(study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "copy")
    with (copy / "pldrepro/exhibits/tables/cost.py").open("a") as module:
        module.write("\n# edited\n")
    jobs = planned(copy, *SMOKE)
    assert {"make_pld", "make_glue", "make_sbld"} <= set(jobs)
    assert not {"pretrain", "finetune", "probe", "make_scores"} & set(jobs)
    assert not {"make_schedule", "make_theta"} & set(jobs)  # parts without a table


def test_recorded_runs_give_the_same_verdicts_again(study: Path, tmp_path: Path) -> None:
    for place, name in (("runs", "runs"), ("gpt/runs", "gpt"), ("images/runs", "images")):
        shutil.copytree(study / "results/smoke" / place, tmp_path / name)
    config = {
        "scale": "recorded",
        "description": "test",
        "results": str(tmp_path / "rebuilt"),
        "recorded": {"copy": [str(tmp_path / name) for name in ("runs", "gpt", "images")]},
    }
    (tmp_path / "recorded.yaml").write_text(yaml.safe_dump(config), "utf-8")
    snakemake(study, "--cores", "2", "claims", "--configfile", str(tmp_path / "recorded.yaml"))
    rebuilt = pd.read_csv(tmp_path / "rebuilt/copy/claims.csv")
    pd.testing.assert_frame_equal(rebuilt, pd.read_csv(study / "results/smoke/claims.csv"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which nothing has run."""
    return copy_repository(tmp_path_factory.mktemp("planned"))


def test_a_wrong_configuration_is_one_line(repository: Path, tmp_path: Path) -> None:
    """Without the places of the code; a repeated key of a file that Snakemake itself has read is refused, too."""
    twice = tmp_path / "twice.yaml"
    twice.write_text("base: config/smoke.yaml\nseeds: [1]\nseeds: [2]\n", "utf-8")
    nameless = tmp_path / "nameless.yaml"  # would change the demo, in the demo's folder
    nameless.write_text("seeds: [1]\n", "utf-8")
    for arguments, expected in (
        ((*SMOKE, "--config", "sedes=3"), "configuration: sedes: unknown key; did you mean seeds? allowed here: scale"),
        (("--configfile", str(twice)), f"{twice}: not readable as YAML: repeated key 'seeds'"),
        (("--configfile", str(nameless)), f"{nameless}: not a study"),
        (("--configfile", "config/experiments/bert/pld.yaml"), "configuration: base: preln_higher: no such file"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "-n", *arguments],
            cwd=repository,
            env=environment(repository),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"SettingsError: {expected}")
        assert "  File " not in done.stderr


def test_every_target_says_what_it_is(repository: Path) -> None:
    lines = snakemake(repository, "--list-target-rules").splitlines()
    said = dict(line.rstrip(")").split(" (", 1) for line in lines if " (" in line)
    assert {*TABLES, *FIGURES} <= set(said)
    assert len(set(said.values())) >= len(said) - 1  # `study` and `all` are the same


def test_a_table_of_costs_needs_neither_fine_tuning_nor_probes(repository: Path) -> None:
    jobs = planned(repository, "table1", "--config", "arms=[baseline,pld]", "seeds=[1]")
    assert {rule: jobs[rule] for rule in ("pretrain", "interleave", "calibrate")} == {
        "pretrain": 2, "interleave": 5, "calibrate": 1,
    }  # fmt: skip
    assert set(jobs) == {
        "settings", "corpus", "pretrain", "interleave", "calibrate", "index_part", "make_pld", "table1",
    }  # fmt: skip


def test_a_failing_job_says_why_in_one_line(repository: Path) -> None:
    data = repository / "data"
    (data / "glue/RTE").mkdir(parents=True)
    (data / "glue/RTE/train.tsv").touch()
    (data / "text").mkdir()
    (data / "text/simple.txt").write_bytes(b"\xff\xff")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "config/mini.yaml"]
    command += ["--config", f"data_root={data}", "results=bad", "--", "bad/data/corpus/manifest.json"]
    done = subprocess.run(
        command, cwd=repository, env=environment(repository), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert re.findall(r"^corpus failed: DataError: .*simple\.txt.*$", done.stderr, re.MULTILINE), done.stderr
    assert re.findall(r"^\[\d of \d\] corpus$", done.stderr, re.MULTILINE)
    assert not {"Finished jobid", "CalledProcessError"} & set(re.findall(r"Finished jobid|\w+Error", done.stderr))


@pytest.mark.parametrize(("given", "limited"), [((), False), (("--max-jobs-per-timespan", "7/1s"), True)])
def test_no_timer_of_snakemake_holds_a_workflow_that_has_ended(
    repository: Path, tmp_path: Path, given: tuple[str, ...], limited: bool
) -> None:
    """Its limit of jobs starts one at every look for jobs, and the process waits for the last."""
    spy = "import threading; start = threading.Timer.start\n"
    spy += "threading.Timer.start = lambda timer: (print('a timer', timer.interval), start(timer))\n"
    (tmp_path / "sitecustomize.py").write_text(spy, "utf-8")
    results = f"limited-{limited}"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *given, *SMOKE]
    command += ["--config", f"results={results}", "--", f"{results}/index.json"]
    own = environment(repository)
    own["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{own['PYTHONPATH']}"
    done = subprocess.run(command, cwd=repository, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("a timer 1" in done.stdout) == limited


def test_the_largest_studies_plan(repository: Path) -> None:
    jobs = planned(repository, "--configfile", "config/paper_images.yaml")
    assert (jobs["pretrain"], jobs["images"], "corpus" in jobs) == (21, 1, False)
    jobs = planned(repository, "--configfile", "config/paper.yaml")
    # 17 arms that are trained and one that is not, which is fine-tuned at its one checkpoint
    assert (jobs["pretrain"], jobs["finetune"], jobs["probe"]) == (3 * 18, 3 * (20 + 1) * 5, 3 * 17)
    assert jobs["make_report"] == 1
