"""Analysis: run folders become scores, tables, figures, claims and the report. Nothing here imports torch.

Each rule names the modules that it runs as inputs: whoever edits tables.py gets the tables built again.
"""

TABLES = ["table1", "table2"]
FIGURES = ["loss_curves", "schedule", "step_time"]
PAPERS = ["config/papers/pld.yaml", "config/papers/sbld.yaml"]


localrules:
    score,
    table,
    figure,
    claims,
    report,


def modules(*names):
    return [f"pldrepro/{name}" for name in names]


PRETRAIN_SUMMARIES = [f"{RUNS}/pretrain/{arm}/seed{seed}/summary.json" for arm, seed in study.pretrain_runs()]
FINETUNE_SUMMARIES = [
    f"{RUNS}/finetune/{arm}/seed{seed}/{checkpoint}/{group}/summary.json"
    for arm, seed, checkpoint, group in study.finetune_runs()
]
CALIBRATION = f"{RUNS}/calibration/summary.json"
SCORES = f"{RESULTS}/scores.csv"


rule score:
    input:
        runs=FINETUNE_SUMMARIES,
        code=modules("score.py", "records.py"),
    output:
        SCORES,
    log:
        f"{RESULTS}/logs/score.log",
    conda:
        "../../environment.yml"
    shell:
        "{PLDREPRO} score --finetune {input.runs:q} --out {output:q} 2> {log:q}"


rule table:
    input:
        pretrain=PRETRAIN_SUMMARIES,
        calibration=CALIBRATION,
        scores=SCORES,
        papers=PAPERS,
        code=modules("tables.py", "stats.py", "records.py", "papers.py"),
    output:
        multiext(f"{RESULTS}/tables/{{table}}", ".csv", ".md", ".tex"),
    log:
        f"{RESULTS}/logs/table/{{table}}.log",
    params:
        prefix=f"{RESULTS}/tables/{{table}}",
    conda:
        "../../environment.yml"
    shell:
        "{PLDREPRO} table {wildcards.table} --pretrain {input.pretrain:q} --calibration {input.calibration:q}"
        " --scores {input.scores:q} --papers {input.papers:q} --out {params.prefix:q} 2> {log:q}"


for exhibit in TABLES:

    rule:
        name:
            exhibit
        input:
            f"{RESULTS}/tables/{exhibit}.csv",
