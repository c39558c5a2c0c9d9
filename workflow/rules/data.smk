"""Data: text and GLUE become token arrays, once for the whole study."""

CORPUS = f"{study.results}/data/corpus"
GLUE = f"{study.results}/data/glue"


rule corpus:
    output:
        f"{CORPUS}/manifest.json",
    log:
        f"{study.results}/logs/corpus.log",
    benchmark:
        f"{study.results}/benchmarks/corpus.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=2000,
    params:
        settings=study.data().model_dump_json(),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro prepare-corpus --settings {params.settings:q} --workers {threads} --out {params.folder:q} 2> {log:q}"


rule glue:
    input:
        f"{CORPUS}/manifest.json",
    output:
        f"{GLUE}/manifest.json",
    log:
        f"{study.results}/logs/glue.log",
    benchmark:
        f"{study.results}/benchmarks/glue.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
    params:
        settings=study.data().model_dump_json(),
        tasks=list(study.settings.finetune.tasks),
        length=study.settings.finetune.sequence_length,
        corpus=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro prepare-glue --settings {params.settings:q} --tasks {params.tasks:q}"
        " --sequence-length {params.length} --corpus {params.corpus:q} --out {params.folder:q} 2> {log:q}"
