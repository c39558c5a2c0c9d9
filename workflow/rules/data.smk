"""Data: text and GLUE become token arrays, once for the whole STUDY."""

CORPUS = f"{STUDY.results}/data/corpus"
GLUE = f"{STUDY.results}/data/glue"


rule corpus:
    output:
        f"{CORPUS}/manifest.json",
    log:
        f"{STUDY.results}/logs/corpus.log",
    benchmark:
        f"{STUDY.results}/benchmarks/corpus.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=2000,
    params:
        settings=STUDY.data().model_dump_json(),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro prepare-corpus --settings {params.settings:q} --workers {threads} --out {params.folder:q} 2> {log:q}"


rule glue:
    input:
        f"{CORPUS}/manifest.json",
    output:
        f"{GLUE}/manifest.json",
    log:
        f"{STUDY.results}/logs/glue.log",
    benchmark:
        f"{STUDY.results}/benchmarks/glue.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
    params:
        settings=STUDY.data().model_dump_json(),
        tasks=list(STUDY.settings.finetune.tasks),
        length=STUDY.settings.finetune.sequence_length,
        corpus=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro prepare-glue --settings {params.settings:q} --tasks {params.tasks:q}"
        " --sequence-length {params.length} --corpus {params.corpus:q} --out {params.folder:q} 2> {log:q}"
