"""The workflow as a module of another one, in a folder that holds nothing of this repository."""

from __future__ import annotations

from pathlib import Path

from tests.support.repository import planned

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEFILE = f"""
configfile: "config.yaml"
module pldrepro:
    snakefile: "{REPOSITORY}/workflow/Snakefile"
    config: config
use rule * from pldrepro as pldrepro_*
rule mine:
    default_target: True
    input: rules.pldrepro_claims.input
"""


def test_a_study_of_ones_own_is_planned_by_the_module(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE, "utf-8")
    (tmp_path / "config.yaml").write_text("{base: config/smoke.yaml, results: mine, seeds: [1]}", "utf-8")
    jobs = planned(REPOSITORY, "--directory", str(tmp_path), "--snakefile", str(tmp_path / "Snakefile"))
    assert (jobs["pldrepro_pretrain"], jobs["pldrepro_finetune"], jobs["mine"]) == (12, 7, 1)
    assert "pldrepro_make_report" not in jobs
