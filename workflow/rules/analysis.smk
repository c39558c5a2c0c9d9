"""Analysis: run folders become scores, tables, figures, claims and the report. Nothing here imports torch.

Exhibits that need the same runs are made together (pldrepro/config/exhibits.py): a target runs what its exhibit needs.
Of recorded runs, where nothing is trained, all are made together.

Exhibits find the runs through a list of them, and have them as inputs, too: one that is lost is made again. Recorded
runs have one input, the folder that they are unpacked into: delete it to unpack them again. A rule names the modules that it
runs as inputs: whoever edits exhibits/tables gets the exhibits built again.
"""

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
TABLE_MODULES = [
    *NUMBERS,
    *modules(
        "exhibits/chosen.py",
        "exhibits/layout.py",
        "exhibits/latex.py",
        "exhibits/text.py",
        "exhibits/table.html",
        "exhibits/tables/*.py",
    ),
]
FIGURE_MODULES = modules("exhibits/chosen.py", "exhibits/text.py", "exhibits/figures/*.py")


localrules:
    make_scores,
    index,
    index_part,
    make_claims,
    make_report,


for records in PACKED:

    rule:
        """Unpack recorded runs."""
        name:
            f"unpack_{Path(records.results).name}_{Path(records.source).name}"
        input:
            records.archives,
        output:
            directory(records.folder),
        log:
            f"{records.results}/logs/unpack-{Path(records.source).name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            records=records.source,
        shell:
            "python -m pldrepro study unpack {params.records:q} --out {output:q} > {log:q} 2>&1"


rule make_scores:
    """GLUE scores of every fine-tuning run, from its predictions."""
    input:
        runs=scored_runs,
        code=NUMBERS,
    output:
        "{results}/scores.csv",
    log:
        "{results}/logs/scores.log",
    conda:
        "../envs/analysis.yaml"
    params:
        finetune=finetune_runs,
    shell:
        "python -m pldrepro make scores --finetune {params.finetune:q} --out {output:q} 2> {log:q}"


rule index:
    """List the finished runs."""
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


rule index_part:
    """List the finished runs that some exhibits are made from."""
    output:
        "{results}/parts/{part}.json",
    log:
        "{results}/logs/parts/{part}.log",
    conda:
        "../envs/analysis.yaml"
    params:
        listing=part_listing,
    shell:
        "printf '%s\\n' {params.listing:q} > {output:q} 2> {log:q}"


for name, part in PARTS.items():

    rule:
        name:
            f"make_{name}"
        input:
            index=f"{{results}}/parts/{name}.json",
            runs=partial(part_runs, name),
            papers=PAPERS,
            code=[*(TABLE_MODULES if part.tables else NUMBERS), *(FIGURE_MODULES if part.figures else [])],
        output:
            expand(
                "{{results}}/tables/{table}{suffix}",
                table=part.tables,
                suffix=[".csv", ".md", ".tex", ".paper.tex"],
            ),
            [exhibit_for_report("tables", table, "html") for table in part.tables],
            expand("{{results}}/figures/{figure}{suffix}", figure=part.figures, suffix=FIGURE_FILES),
            [exhibit_for_report("figures", figure, "svg") for figure in part.figures],
        log:
            f"{{results}}/logs/exhibits-{name}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            tables=part.tables,
            figures=part.figures,
        shell:
            "python -m pldrepro make exhibits --tables {params.tables:q} --figures {params.figures:q}"
            " --index {input.index:q} --papers {input.papers:q} --out {wildcards.results:q} 2> {log:q}"


rule make_claims:
    """Every claim of both papers: reported, measured, interval, verdict; and the answers to the reviewers' questions."""
    input:
        index="{results}/index.json",
        runs=finished_runs,
        papers=PAPERS,
        code=[*NUMBERS, *modules("exhibits/reviews.py")],
    output:
        claims=report(
            "{results}/claims.csv",
            caption="../report/claims.rst",
            category="Results",
            labels={
                "study": "{results}",
                "exhibit": "Claims",
                "shows": "reported, measured and verdict of every claim",
            },
        ),
        story="{results}/story.csv",
        reviews="{results}/reviews.md",
    log:
        "{results}/logs/claims.log",
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m pldrepro make claims --index {input.index:q} --papers {input.papers:q} --out {output.claims:q}"
        " 2> {log:q}"


rule make_report:
    """One page with everything, which opens offline."""
    input:
        index="{results}/index.json",
        papers=PAPERS,
        claims="{results}/claims.csv",
        story="{results}/story.csv",
        reviews="{results}/reviews.md",
        tables="{results}/tables/table1.csv",
        figures="{results}/figures/figure1.svg",
        pages=[DEVIATIONS],
        shown=expand("{{results}}/tables/{table}.html", table=TABLES),
        drawn=expand("{{results}}/figures/{figure}.svg", figure=FIGURES),
        code=[*TABLE_MODULES, *modules("exhibits/*.py", "exhibits/report.html", "exhibits/figures/*.py")],
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

KINDS = {
    exhibit: [kind for kind, names in (("tables", TABLES), ("figures", FIGURES)) if exhibit in names]
    for exhibit in (*TABLES, *FIGURES)
}

for exhibit, kinds in KINDS.items():

    rule:
        name:
            exhibit
        input:
            expand("{results}/{kind}/{exhibit}.csv", results=RESULT_FOLDERS, kind=kinds, exhibit=exhibit),


rule tables:
    """All tables."""
    input:
        expand("{results}/tables/{table}.csv", results=RESULT_FOLDERS, table=TABLES),


rule figures:
    """All figures."""
    input:
        expand("{results}/figures/{figure}.csv", results=RESULT_FOLDERS, figure=FIGURES),


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


# What `snakemake --list-rules` says of the rules that are made in a loop.
for exhibit, kinds in KINDS.items():
    describe(exhibit, f"{described(kinds[0], exhibit)} ({', '.join(kinds)})")
for name, part in PARTS.items():
    made = {"tables": part.tables, "figures": part.figures}
    describe(f"make_{name}", "; ".join(f"{kind}: {', '.join(names)}" for kind, names in made.items() if names))
