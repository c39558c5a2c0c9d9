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
FIGURE_FILES = [".pdf", ".png", ".csv", ".txt"]
DEVIATIONS = str(shipped(Path("docs/deviations.md")))

PAPERS = sorted(map(str, shipped(Path("config/papers")).glob("*.yaml")))
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


localrules:
    make_scores,
    index,
    make_tables,
    make_figures,
    make_claims,
    make_reviews,
    make_report,


rule make_scores:
    """GLUE scores of every fine-tuning run, from its predictions."""
    input:
        runs=finetune_runs,
        code=NUMBERS,
    output:
        "{results}/scores.csv",
    log:
        "{results}/logs/scores.log",
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m pldrepro make scores --finetune {input.runs:q} --out {output:q} 2> {log:q}"


rule index:
    """List the finished runs; every exhibit finds them through this file."""
    input:
        finished_runs,
        "{results}/scores.csv",
    output:
        "{results}/index.json",
    log:
        "{results}/logs/index.log",
    conda:
        "../envs/analysis.yaml"
    params:
        listing=runs_listing,
    shell:
        "printf '%s\\n' {params.listing:q} > {output:q} 2> {log:q}"


rule make_tables:
    """All tables, each as csv, md, tex and html."""
    input:
        index="{results}/index.json",
        papers=PAPERS,
        code=TABLE_MODULES,
    output:
        expand("{{results}}/tables/{table}{suffix}", table=TABLES, suffix=[".csv", ".md", ".tex"]),
        [exhibit_for_report("tables", table, "html") for table in TABLES],
    log:
        "{results}/logs/tables.log",
    conda:
        "../envs/analysis.yaml"
    params:
        names=TABLES,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro make tables {params.names:q} --index {input.index:q} --papers {input.papers:q}"
        " --out {params.folder:q} 2> {log:q}"


rule make_figures:
    """All figures, each as pdf, png and svg with its data (csv) and caption (txt)."""
    input:
        index="{results}/index.json",
        papers=PAPERS,
        code=[*NUMBERS, *modules("exhibits/figures/*.py", "exhibits/tables/__init__.py")],
    output:
        expand("{{results}}/figures/{figure}{suffix}", figure=FIGURES, suffix=FIGURE_FILES),
        [exhibit_for_report("figures", figure, "svg") for figure in FIGURES],
    log:
        "{results}/logs/figures.log",
    conda:
        "../envs/analysis.yaml"
    params:
        names=FIGURES,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro make figures {params.names:q} --index {input.index:q} --papers {input.papers:q}"
        " --out {params.folder:q} 2> {log:q}"


rule make_claims:
    """Every claim of both papers: reported, measured, interval, verdict."""
    input:
        index="{results}/index.json",
        papers=PAPERS,
        code=NUMBERS,
    output:
        report(
            "{results}/claims.csv",
            caption="../report/claims.rst",
            category="Results",
            labels={
                "study": "{results}",
                "exhibit": "Claims",
                "shows": "reported, measured and verdict of every claim",
            },
        ),
    log:
        "{results}/logs/claims.log",
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m pldrepro make claims --index {input.index:q} --papers {input.papers:q} --out {output:q} 2> {log:q}"


rule make_reviews:
    """The questions of the PLD paper's reviewers, answered from the results."""
    input:
        index="{results}/index.json",
        papers=PAPERS,
        code=[*NUMBERS, *modules("exhibits/reviews.py")],
    output:
        "{results}/reviews.md",
    log:
        "{results}/logs/reviews.log",
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m pldrepro make reviews --index {input.index:q} --papers {input.papers:q} --out {output:q} 2> {log:q}"


rule make_report:
    """One page with everything, which opens offline."""
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
        report(
            "{results}/report.html",
            caption="../report/report.rst",
            category="Results",
            labels={"study": "{results}", "exhibit": "Report", "shows": "everything on one page"},
        ),
    log:
        "{results}/logs/report.log",
    conda:
        "../envs/analysis.yaml"
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
        """This exhibit, with all that it needs."""
        name:
            exhibit
        input:
            expand(f"{{results}}/{folder}/{exhibit}.csv", results=RESULT_FOLDERS),


rule tables:
    """All tables."""
    input:
        expand("{results}/tables/table1.csv", results=RESULT_FOLDERS),


rule figures:
    """All figures."""
    input:
        expand("{results}/figures/figure1.svg", results=RESULT_FOLDERS),


rule claims:
    """The claims with their verdicts, claims.csv."""
    input:
        expand("{results}/claims.csv", results=RESULT_FOLDERS),


rule reviews:
    """The answers to the reviewers' questions, reviews.md."""
    input:
        expand("{results}/reviews.md", results=RESULT_FOLDERS),


rule report:
    """The whole page, report.html."""
    input:
        expand("{results}/report.html", results=RESULT_FOLDERS),
