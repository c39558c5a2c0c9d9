"""Data: text, GLUE and images become arrays, once for each study."""


rule corpus:
    output:
        "{study}/data/corpus/manifest.json",
    log:
        "{study}/logs/corpus.log",
    benchmark:
        "{study}/benchmarks/corpus.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=2000,
    params:
        settings=of_study(lambda study: study.data().model_dump_json()),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro prepare-corpus --settings {params.settings:q} --workers {threads} --out {params.folder:q} 2> {log:q}"


rule images:
    output:
        "{study}/data/images/manifest.json",
    log:
        "{study}/logs/images.log",
    benchmark:
        "{study}/benchmarks/images.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
    params:
        settings=of_study(lambda study: study.data().model_dump_json()),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro prepare-images --settings {params.settings:q} --out {params.folder:q} 2> {log:q}"


rule glue:
    input:
        "{study}/data/corpus/manifest.json",
    output:
        "{study}/data/glue/manifest.json",
    log:
        "{study}/logs/glue.log",
    benchmark:
        "{study}/benchmarks/glue.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
    params:
        settings=of_study(lambda study: study.data().model_dump_json()),
        tasks=of_study(lambda study: list(study.settings.finetune.tasks)),
        length=of_study(lambda study: study.settings.finetune.sequence_length),
        corpus=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro prepare-glue --settings {params.settings:q} --tasks {params.tasks:q}"
        " --sequence-length {params.length} --corpus {params.corpus:q} --out {params.folder:q} 2> {log:q}"
