"""Data: text and GLUE become token arrays, once for the whole study."""


rule corpus:
    output:
        f"{CORPUS}/manifest.json",
    log:
        f"{RESULTS}/logs/corpus.log",
    benchmark:
        f"{RESULTS}/benchmarks/corpus.tsv"
    params:
        settings=study.data().model_dump_json(),
        folder=CORPUS,
    threads: 2
    resources:
        mem_mb=2000,
    conda:
        "../../environment.yml"
    shell:
        "{PLDREPRO} prepare-corpus --settings {params.settings:q} --workers {threads} --out {params.folder:q} 2> {log:q}"


rule glue:
    input:
        f"{CORPUS}/manifest.json",
    output:
        f"{GLUE}/manifest.json",
    log:
        f"{RESULTS}/logs/glue.log",
    benchmark:
        f"{RESULTS}/benchmarks/glue.tsv"
    params:
        settings=study.data().model_dump_json(),
        tasks=list(study.settings.finetune.tasks),
        length=study.settings.finetune.sequence_length,
        corpus=CORPUS,
        folder=GLUE,
    resources:
        mem_mb=2000,
    conda:
        "../../environment.yml"
    shell:
        "{PLDREPRO} prepare-glue --settings {params.settings:q} --tasks {params.tasks:q}"
        " --sequence-length {params.length} --corpus {params.corpus:q} --out {params.folder:q} 2> {log:q}"
