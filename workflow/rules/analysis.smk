"""Analysis: run folders become scores, tables, figures, claims and the report. Nothing here imports torch.

Each rule names the modules that it runs as inputs: whoever edits tables.py gets the tables built again.
"""

TABLES = ["table1", "table2"]
FIGURES = ["loss_curves", "schedule", "step_time"]
FIGURE_FILES = [".pdf", ".png", ".svg", ".csv", ".txt"]
DEVIATIONS = "docs/deviations.md"

PRETRAINED = [f"{RUNS}/pretrain/{arm}/seed{seed}/summary.json" for arm, seed in study.pretrain_runs()]
FINETUNED = [
    f"{RUNS}/finetune/{arm}/seed{seed}/{checkpoint}/{group}/summary.json"
    for arm, seed, checkpoint, group in study.finetune_runs()
]
CALIBRATION = f"{RUNS}/calibration/summary.json"
SCORES = f"{RESULTS}/scores.csv"
EVIDENCE_MODULES = [f"pldrepro/{name}.py" for name in ("records", "evidence", "stats", "papers", "timing")]


localrules:
    score,
    table,
    figure,
    claims,
    report,
    table1,
    table2,
    figures,
    tables,


rule score:
    input:
        runs=FINETUNED,
        code=["pldrepro/score.py", "pldrepro/metric.py", "pldrepro/records.py"],
    output:
        SCORES,
    log:
        f"{RESULTS}/logs/score.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro score --finetune {input.runs:q} --out {output:q} 2> {log:q}"


rule table:
    input:
        pretrain=PRETRAINED,
        finetune=FINETUNED,
        calibration=CALIBRATION,
        scores=SCORES,
        papers=["config/papers/pld.yaml", "config/papers/sbld.yaml"],
        code=["pldrepro/tables.py", *EVIDENCE_MODULES],
    output:
        multiext(f"{RESULTS}/tables/{{table}}", ".csv", ".md", ".tex"),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    conda:
        "../../environment.yml"
    params:
        baseline=study.settings.baseline,
        prefix=f"{RESULTS}/tables/{{table}}",
    shell:
        "python -m pldrepro table {wildcards.table} --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --out {params.prefix:q} 2> {log:q}"


rule figure:
    input:
        pretrain=PRETRAINED,
        finetune=FINETUNED,
        calibration=CALIBRATION,
        scores=SCORES,
        papers=["config/papers/pld.yaml", "config/papers/sbld.yaml"],
        code=["pldrepro/figures.py", "pldrepro/drop.py", *EVIDENCE_MODULES],
    output:
        multiext(f"{RESULTS}/figures/{{figure}}", *FIGURE_FILES),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    conda:
        "../../environment.yml"
    params:
        baseline=study.settings.baseline,
        prefix=f"{RESULTS}/figures/{{figure}}",
    shell:
        "python -m pldrepro figure {wildcards.figure} --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --out {params.prefix:q} 2> {log:q}"


rule claims:
    input:
        pretrain=PRETRAINED,
        finetune=FINETUNED,
        calibration=CALIBRATION,
        scores=SCORES,
        papers=["config/papers/pld.yaml", "config/papers/sbld.yaml"],
        code=["pldrepro/claims.py", *EVIDENCE_MODULES],
    output:
        f"{RESULTS}/claims.csv",
    log:
        f"{RESULTS}/logs/claims.log",
    conda:
        "../../environment.yml"
    params:
        baseline=study.settings.baseline,
    shell:
        "python -m pldrepro claims --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --out {output:q} 2> {log:q}"


rule report:
    input:
        pretrain=PRETRAINED,
        finetune=FINETUNED,
        calibration=CALIBRATION,
        scores=SCORES,
        papers=["config/papers/pld.yaml", "config/papers/sbld.yaml"],
        claims=f"{RESULTS}/claims.csv",
        tables=expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),
        figures=expand(f"{RESULTS}/figures/{{figure}}.svg", figure=FIGURES),
        deviations=DEVIATIONS,
        code=["pldrepro/report.py", "pldrepro/report.html", "pldrepro/tables.py", *EVIDENCE_MODULES],
    output:
        report(f"{RESULTS}/report.html", caption="../report/report.rst", category="Report"),
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../../environment.yml"
    params:
        baseline=study.settings.baseline,
        figures=expand(f"{RESULTS}/figures/{{figure}}", figure=FIGURES),
    shell:
        "python -m pldrepro report --pretrain {input.pretrain:q} --finetune {input.finetune:q}"
        " --calibration {input.calibration:q} --scores {input.scores:q} --papers {input.papers:q}"
        " --baseline {params.baseline:q} --claims {input.claims:q} --figures {params.figures:q}"
        " --deviations {input.deviations:q} --out {output:q} 2> {log:q}"


# Names for the command line.


rule table1:
    input:
        f"{RESULTS}/tables/table1.csv",


rule table2:
    input:
        f"{RESULTS}/tables/table2.csv",


rule tables:
    input:
        expand(f"{RESULTS}/tables/{{table}}.csv", table=TABLES),


rule figures:
    input:
        expand(f"{RESULTS}/figures/{{figure}}.svg", figure=FIGURES),
