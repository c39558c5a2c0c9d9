"""Analysis: run folders become scores, tables, figures, claims and the report. Nothing here imports torch.

index.json lists the finished runs; every later rule reads them through it. A rule names the modules that it runs as
inputs: whoever edits exhibits/tables gets the tables built again. The rule `make_tables`, the verb `make tables` and the
target `tables` are one thing for one results folder, and for all of them.
"""

TABLES = """
    table1 table2 table3 time_to_target contrasts fair_budgets overfitting memory seeds variance stability fits glue_tests
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
NUMBERS = modules(
    "stats.py",
    "files.py",
    "records.py",
    "policy/*.py",
    "config/*.py",
    "data/tasks.py",
    "runs/*.py",
    "costs/*.py",
    "analysis/*.py",
)
TABLE_MODULES = [*NUMBERS, *modules("exhibits/layout.py", "exhibits/table.html", "exhibits/tables/*.py")]


wildcard_constraints:
    results="|".join(map(re.escape, RESULT_FOLDERS)),


localrules:
    make_scores,
    index,
    make_tables,
    make_figures,
    make_claims,
    make_reviews,
    make_report,


rule make_scores:
    input:
        runs=lambda w: BY_FOLDER[w.results].finetune,
        code=NUMBERS,
    output:
        "{results}/scores.csv",
    log:
        "{results}/logs/scores.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro make scores --finetune {input.runs:q} --out {output:q} 2> {log:q}"


rule index:
    input:
        lambda w: BY_FOLDER[w.results].files,
        "{results}/scores.csv",
    output:
        "{results}/index.json",
    log:
        "{results}/logs/index.log",
    conda:
        "../../environment.yml"
    params:
        listing=lambda w: BY_FOLDER[w.results].listing,
    shell:
        "printf '%s\\n' {params.listing:q} > {output:q} 2> {log:q}"


rule make_tables:
    input:
        index="{results}/index.json",
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
        "python -m pldrepro make tables {params.names:q} --index {input.index:q} --papers {input.papers:q}"
        " --out {params.folder:q} 2> {log:q}"


rule make_figures:
    input:
        index="{results}/index.json",
        papers=PAPERS,
        code=[*NUMBERS, *modules("exhibits/figures/*.py", "exhibits/tables/__init__.py")],
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
        "python -m pldrepro make figures {params.names:q} --index {input.index:q} --papers {input.papers:q}"
        " --out {params.folder:q} 2> {log:q}"


rule make_claims:
    input:
        index="{results}/index.json",
        papers=PAPERS,
        code=NUMBERS,
    output:
        "{results}/claims.csv",
    log:
        "{results}/logs/claims.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro make claims --index {input.index:q} --papers {input.papers:q} --out {output:q} 2> {log:q}"


rule make_reviews:
    input:
        index="{results}/index.json",
        papers=PAPERS,
        code=[*NUMBERS, *modules("exhibits/reviews.py")],
    output:
        "{results}/reviews.md",
    log:
        "{results}/logs/reviews.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m pldrepro make reviews --index {input.index:q} --papers {input.papers:q} --out {output:q} 2> {log:q}"


rule make_report:
    input:
        index="{results}/index.json",
        papers=PAPERS,
        claims="{results}/claims.csv",
        reviews="{results}/reviews.md",
        tables="{results}/tables/table1.csv",
        figures="{results}/figures/figure1.svg",
        pages=[DEVIATIONS],
        shown=expand("{{results}}/tables/{table}.html", table=TABLES),
        drawn=expand("{{results}}/figures/{figure}.svg", figure=FIGURES),
        code=[*TABLE_MODULES, *modules("exhibits/report.py", "exhibits/report.html", "exhibits/figures/*.py")],
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
        "python -m pldrepro make report --index {input.index:q} --papers {input.papers:q} --claims {input.claims:q}"
        " --tables {params.tables:q} --figures {params.figures:q} --pages {input.reviews:q} {input.pages:q}"
        " --out {output:q} 2> {log:q}"


# Targets for the command line: every exhibit of the papers, and all that each rule makes.

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
