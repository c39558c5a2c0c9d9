"""Data: text, GLUE and images become arrays, once for each study.

A job reads its settings from a file: where they change it runs again, and jobs with other settings are not touched.
"""


localrules:
    settings,


rule settings:
    """Write the settings of one job to a file, so that it runs again when they change."""
    output:
        "{study}/runs/settings/{job}.json",
    log:
        "{study}/logs/settings/{job}.log",
    conda:
        "../envs/training.yaml"
    params:
        settings=settings_text,
    shell:
        "printf '%s\\n' {params.settings:q} > {output:q} 2> {log:q}"


rule corpus:
    """Text to arrays of tokens."""
    input:
        settings="{study}/runs/settings/data.json",
    output:
        "{study}/data/corpus/manifest.json",
    log:
        "{study}/logs/corpus.log",
    benchmark:
        "{study}/benchmarks/corpus.tsv"
    conda:
        "../envs/training.yaml"
    threads: 2
    resources:
        mem_mb=2000,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro prepare corpus --settings {input.settings:q} --workers {threads} --out {params.folder:q} 2> {log:q}"


rule images:
    """Images to arrays of pixels."""
    input:
        settings="{study}/runs/settings/data.json",
    output:
        "{study}/data/images/manifest.json",
    log:
        "{study}/logs/images.log",
    benchmark:
        "{study}/benchmarks/images.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=2000,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro prepare images --settings {input.settings:q} --out {params.folder:q} 2> {log:q}"


rule glue:
    """GLUE's tasks to arrays of tokens."""
    input:
        settings="{study}/runs/settings/data.json",
        corpus="{study}/data/corpus/manifest.json",
    output:
        "{study}/data/glue/manifest.json",
    log:
        "{study}/logs/glue.log",
    benchmark:
        "{study}/benchmarks/glue.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=2000,
    params:
        tasks=of_study(glue_tasks),
        length=of_study(attrgetter("settings.finetune.sequence_length")),
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro prepare glue --settings {input.settings:q} --tasks {params.tasks:q}"
        " --sequence-length {params.length} --corpus {params.corpus:q} --out {params.folder:q} 2> {log:q}"


rule contrasts_items:
    """Minimal pairs and cloze items to arrays of tokens."""
    input:
        settings="{study}/runs/settings/contrasts.json",
        data="{study}/runs/settings/data.json",
        corpus="{study}/data/corpus/manifest.json",
        paradigms=paradigm_lists,
    output:
        "{study}/data/contrasts/manifest.json",
    log:
        "{study}/logs/contrasts_items.log",
    benchmark:
        "{study}/benchmarks/contrasts_items.tsv"
    conda:
        "../envs/training.yaml"
    resources:
        mem_mb=2000,
    params:
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro prepare contrasts --settings {input.settings:q} --data {input.data:q} --corpus {params.corpus:q}"
        " --out {params.folder:q} 2> {log:q}"
