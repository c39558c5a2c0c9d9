"""Analysis: run folders become scores, tables, figures, claims and the report. Nothing here imports torch.

evidence.json lists the finished runs; every later rule reads them through it. A rule names the modules that it runs
as inputs: whoever edits tables/ gets the tables built again.
"""

from pathlib import Path

TABLES = """
    table1 table2 table3 time_to_target fair_budgets overfitting memory seeds variance stability glue_tests
    depth_robustness sbld_table1 sbld_table2
""".split()
FIGURES = """
    figure1 figure2 figure3 figure4 figure6 figure7 figure8 figure9 figure10 trade_off fair_budgets overfitting
    depth_robustness schedule step_time sbld_sensitivity sbld_keep sbld_loss
""".split()
FIGURE_FILES = [".pdf", ".png", ".svg", ".csv", ".txt"]
DEVIATIONS = "docs/deviations.md"

BY_FOLDER = {one.results: one for one in SETS}
RESULT_FOLDERS = list(BY_FOLDER)
PAPERS = ["config/papers/pld.yaml", "config/papers/sbld.yaml"]
ANALYSIS = sorted(map(str, [*Path("pldrepro/analysis").glob("*.py"), *Path("pldrepro/runs").glob("*.py")]))
LAYOUT = ["pldrepro/exhibits/layout.py", "pldrepro/exhibits/table.html"]
TABLE_MODULES = [*ANALYSIS, *LAYOUT, *sorted(map(str, Path("pldrepro/exhibits/tables").glob("*.py")))]
FIGURE_MODULES = [*ANALYSIS, *sorted(map(str, Path("pldrepro/exhibits/figures").glob("*.py")))]


wildcard_constraints:
    results="|".join(map(re.escape, RESULT_FOLDERS)),


localrules:
    score,
    evidence,
    set_tables,
    draw_figures,
    judge,
    answer,
    page,


rule score:
    input:
        runs=lambda w: BY_FOLDER[w.results].finetune,
        code=[
            "pldrepro/analysis/glue_scores.py",
            "pldrepro/analysis/glue_metrics.py",
            "pldrepro/analysis/evaluate_glue.py",
            "pldrepro/runs/folder.py",
        ],
    output:
        "{results}/scores.csv",
    log:
        "{results}/logs/score.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro score --finetune {input.runs:q} --out {output:q} 2> {log:q}"


rule evidence:
    input:
        lambda w: BY_FOLDER[w.results].files,
        "{results}/scores.csv",
    output:
        "{results}/evidence.json",
    log:
        "{results}/logs/evidence.log",
    conda:
        "../../environment.yml"
    params:
        listing=lambda w: BY_FOLDER[w.results].listing,
    shell:
        "printf '%s\\n' {params.listing:q} > {output:q} 2> {log:q}"


rule set_tables:
    input:
        evidence="{results}/evidence.json",
        papers=PAPERS,
        code=TABLE_MODULES,
    output:
        expand("{{results}}/tables/{table}{suffix}", table=TABLES, suffix=[".csv", ".md", ".tex", ".html"]),
    log:
        "{results}/logs/tables.log",
    conda:
        "../../environment.yml"
    params:
        names=TABLES,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro tables {params.names:q} --evidence {input.evidence:q} --papers {input.papers:q}"
        " --out {params.folder:q} 2> {log:q}"


rule draw_figures:
    input:
        evidence="{results}/evidence.json",
        papers=PAPERS,
        code=[*FIGURE_MODULES, "pldrepro/policy/drop.py", "pldrepro/costs/flops.py"],
    output:
        expand("{{results}}/figures/{figure}{suffix}", figure=FIGURES, suffix=FIGURE_FILES),
    log:
        "{results}/logs/figures.log",
    conda:
        "../../environment.yml"
    params:
        names=FIGURES,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro figures {params.names:q} --evidence {input.evidence:q} --papers {input.papers:q}"
        " --out {params.folder:q} 2> {log:q}"


rule judge:
    input:
        evidence="{results}/evidence.json",
        papers=PAPERS,
        code=ANALYSIS,
    output:
        "{results}/claims.csv",
    log:
        "{results}/logs/claims.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro claims --evidence {input.evidence:q} --papers {input.papers:q} --out {output:q} 2> {log:q}"


rule answer:
    input:
        evidence="{results}/evidence.json",
        papers=PAPERS,
        code=["pldrepro/exhibits/questions.py", *TABLE_MODULES],
    output:
        "{results}/reviews.md",
    log:
        "{results}/logs/reviews.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro reviews --evidence {input.evidence:q} --papers {input.papers:q} --out {output:q} 2> {log:q}"


rule page:
    input:
        evidence="{results}/evidence.json",
        papers=PAPERS,
        claims="{results}/claims.csv",
        reviews="{results}/reviews.md",
        tables="{results}/tables/table1.csv",
        figures="{results}/figures/figure1.svg",
        deviations=DEVIATIONS,
        code=["pldrepro/exhibits/report.py", "pldrepro/exhibits/report.html", *ANALYSIS],
    output:
        report("{results}/report.html", caption="../report/report.rst", category="Report"),
    log:
        "{results}/logs/report.log",
    conda:
        "../../environment.yml"
    params:
        tables=subpath(input.tables, parent=True),
        figures=subpath(input.figures, parent=True),
    shell:
        "python -m pldrepro report --evidence {input.evidence:q} --papers {input.papers:q} --claims {input.claims:q}"
        " --tables {params.tables:q} --figures {params.figures:q} --reviews {input.reviews:q} --deviations {input.deviations:q}"
        " --out {output:q} 2> {log:q}"


# Names for the command line: every exhibit of the papers, and all that each rule makes.

for exhibit, folder in {**dict.fromkeys(FIGURES, "figures"), **dict.fromkeys(TABLES, "tables")}.items():

    rule:
        name:
            exhibit
        input:
            expand(f"{{results}}/{folder}/{exhibit}.csv", results=RESULT_FOLDERS),


rule tables:
    input:
        expand("{results}/tables/table1.csv", results=RESULT_FOLDERS),


rule figures:
    input:
        expand("{results}/figures/figure1.svg", results=RESULT_FOLDERS),


rule claims:
    input:
        expand("{results}/claims.csv", results=RESULT_FOLDERS),


rule reviews:
    input:
        expand("{results}/reviews.md", results=RESULT_FOLDERS),


rule report:
    input:
        expand("{results}/report.html", results=RESULT_FOLDERS),
