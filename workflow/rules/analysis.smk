"""Analysis: run folders become scores, tables, figures, claims and the report. Nothing here imports torch.

Each rule names the modules that it runs as inputs: whoever edits tables/ gets the tables built again.
"""

import re
from pathlib import Path

TABLES = ["table1", "table2"]
FIGURES = ["loss_curves", "schedule", "step_time"]
FIGURE_FILES = [".pdf", ".png", ".svg", ".csv", ".txt"]
DEVIATIONS = "docs/deviations.md"

BY_FOLDER = {one.results: one for one in SETS}
RESULT_FOLDERS = list(BY_FOLDER)
PAPERS = ["config/papers/pld.yaml", "config/papers/sbld.yaml"]
TABLE_MODULES = sorted(map(str, Path("pldrepro/tables").glob("*.py")))
FIGURE_MODULES = sorted(map(str, Path("pldrepro/figures").glob("*.py")))
EVIDENCE_MODULES = [f"pldrepro/{name}.py" for name in ("records", "evidence", "stats", "papers", "timing")]


wildcard_constraints:
    results="|".join(map(re.escape, RESULT_FOLDERS)),


localrules:
    score,
    table,
    figure,
    judge,
    page,
    claims,
    report,
    table1,
    table2,
    figures,
    tables,


rule score:
    input:
        runs=lambda w: BY_FOLDER[w.results].finetune,
        code=["pldrepro/score.py", "pldrepro/metric.py", "pldrepro/records.py"],
    output:
        "{results}/scores.csv",
    log:
        "{results}/logs/score.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro score --finetune {input.runs:q} --out {output:q} 2> {log:q}"


rule table:
    input:
        pretrain=lambda w: BY_FOLDER[w.results].pretrain,
        finetune=lambda w: BY_FOLDER[w.results].finetune,
        calibration=lambda w: BY_FOLDER[w.results].calibration,
        scores="{results}/scores.csv",
        papers=PAPERS,
        code=[*TABLE_MODULES, *EVIDENCE_MODULES],
    output:
        multiext("{results}/tables/{table}", ".csv", ".md", ".tex"),
    log:
        "{results}/logs/tables/{table}.log",
    conda:
        "../../environment.yml"
    params:
        baseline=lambda w: BY_FOLDER[w.results].baseline,
        prefix="{results}/tables/{table}",
    shell:
        "python -m pldrepro table {wildcards.table} --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --out {params.prefix:q} 2> {log:q}"


rule figure:
    input:
        pretrain=lambda w: BY_FOLDER[w.results].pretrain,
        finetune=lambda w: BY_FOLDER[w.results].finetune,
        calibration=lambda w: BY_FOLDER[w.results].calibration,
        scores="{results}/scores.csv",
        papers=PAPERS,
        code=[*FIGURE_MODULES, "pldrepro/drop.py", *EVIDENCE_MODULES],
    output:
        multiext("{results}/figures/{figure}", *FIGURE_FILES),
    log:
        "{results}/logs/figures/{figure}.log",
    conda:
        "../../environment.yml"
    params:
        baseline=lambda w: BY_FOLDER[w.results].baseline,
        prefix="{results}/figures/{figure}",
    shell:
        "python -m pldrepro figure {wildcards.figure} --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --out {params.prefix:q} 2> {log:q}"


rule judge:
    input:
        pretrain=lambda w: BY_FOLDER[w.results].pretrain,
        finetune=lambda w: BY_FOLDER[w.results].finetune,
        calibration=lambda w: BY_FOLDER[w.results].calibration,
        scores="{results}/scores.csv",
        papers=PAPERS,
        code=["pldrepro/claims.py", *EVIDENCE_MODULES],
    output:
        "{results}/claims.csv",
    log:
        "{results}/logs/claims.log",
    conda:
        "../../environment.yml"
    params:
        baseline=lambda w: BY_FOLDER[w.results].baseline,
    shell:
        "python -m pldrepro claims --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --out {output:q} 2> {log:q}"


rule page:
    input:
        pretrain=lambda w: BY_FOLDER[w.results].pretrain,
        finetune=lambda w: BY_FOLDER[w.results].finetune,
        calibration=lambda w: BY_FOLDER[w.results].calibration,
        scores="{results}/scores.csv",
        papers=PAPERS,
        claims="{results}/claims.csv",
        tables=expand("{{results}}/tables/{table}.csv", table=TABLES),
        figures=expand("{{results}}/figures/{figure}.svg", figure=FIGURES),
        deviations=DEVIATIONS,
        code=["pldrepro/report.py", "pldrepro/report.html", *TABLE_MODULES, *EVIDENCE_MODULES],
    output:
        report("{results}/report.html", caption="../report/report.rst", category="Report"),
    log:
        "{results}/logs/report.log",
    conda:
        "../../environment.yml"
    params:
        baseline=lambda w: BY_FOLDER[w.results].baseline,
        figures=expand("{{results}}/figures/{figure}", figure=FIGURES),
    shell:
        "python -m pldrepro report --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --claims {input.claims:q} --figures {params.figures:q}"
        " --deviations {input.deviations:q} --out {output:q} 2> {log:q}"


# Names for the command line.


rule table1:
    input:
        expand("{results}/tables/table1.csv", results=RESULT_FOLDERS),


rule table2:
    input:
        expand("{results}/tables/table2.csv", results=RESULT_FOLDERS),


rule tables:
    input:
        expand("{results}/tables/{table}.csv", results=RESULT_FOLDERS, table=TABLES),


rule figures:
    input:
        expand("{results}/figures/{figure}.svg", results=RESULT_FOLDERS, figure=FIGURES),


rule claims:
    input:
        expand("{results}/claims.csv", results=RESULT_FOLDERS),


rule report:
    input:
        expand("{results}/report.html", results=RESULT_FOLDERS),
