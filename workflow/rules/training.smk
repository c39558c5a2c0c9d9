"""Training: calibration, pre-training, fine-tuning and probes. Each rule leaves a run folder; its summary is the output.

Resume checkpoints live in the run folder too, but are not declared: Snakemake removes outputs of a failed job.
"""


localrules:
    settings,


GPUS = 0 if STUDY.impl.device == "cpu" else 1


rule calibrate:
    output:
        f"{STUDY.runs}/calibration/summary.json",
    log:
        f"{STUDY.results}/logs/calibrate.log",
    benchmark:
        f"{STUDY.results}/benchmarks/calibrate.tsv"
    conda:
        "../../environment.yml"
    # Step times are measured with the machine to itself.
    threads: STUDY.settings.calibration.reserved_cores
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        settings=STUDY.calibration_job().model_dump_json(),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro calibrate --settings {params.settings:q} --out {params.folder:q} 2> {log:q}"


rule settings:
    output:
        f"{STUDY.runs}/settings/{{arm}}-seed{{seed}}.json",
    log:
        f"{STUDY.results}/logs/settings/{{arm}}-seed{{seed}}.log",
    conda:
        "../../environment.yml"
    params:
        settings=lambda w: STUDY.run(w.arm, int(w.seed)).model_dump_json(indent=1),
    shell:
        "printf '%s\\n' {params.settings:q} > {output:q} 2> {log:q}"


rule pretrain:
    input:
        settings=f"{STUDY.runs}/settings/{{arm}}-seed{{seed}}.json",
        corpus=f"{CORPUS}/manifest.json",
        # Step times vary from one calibration to the next: a new one prices runs anew, it does not repeat them.
        calibration=ancient(f"{STUDY.runs}/calibration/summary.json"),
    output:
        f"{STUDY.runs}/pretrain/{{arm}}/seed{{seed}}/summary.json",
    log:
        f"{STUDY.results}/logs/pretrain/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{STUDY.results}/benchmarks/pretrain/{{arm}}-seed{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: STUDY.impl.threads
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro pretrain --settings {input.settings:q} --corpus {params.corpus:q}"
        " --calibration {input.calibration:q} --out {params.folder:q} 2> {log:q}"


rule finetune:
    input:
        run=f"{STUDY.runs}/pretrain/{{arm}}/seed{{seed}}/summary.json",
        glue=f"{GLUE}/manifest.json",
    output:
        f"{STUDY.runs}/finetune/{{arm}}/seed{{seed}}/{{checkpoint}}/{{group}}/summary.json",
    log:
        f"{STUDY.results}/logs/finetune/{{arm}}/seed{{seed}}-{{checkpoint}}-{{group}}.log",
    benchmark:
        f"{STUDY.results}/benchmarks/finetune/{{arm}}-seed{{seed}}-{{checkpoint}}-{{group}}.tsv"
    conda:
        "../../environment.yml"
    threads: STUDY.impl.threads
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        settings=STUDY.settings.finetune.model_dump_json(),
        run=subpath(input.run, parent=True),
        glue=subpath(input.glue, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro finetune --settings {params.settings:q} --run {params.run:q} --checkpoint {wildcards.checkpoint}"
        " --group {wildcards.group} --glue {params.glue:q} --out {params.folder:q} 2> {log:q}"


rule probe:
    input:
        run=f"{STUDY.runs}/pretrain/{{arm}}/seed{{seed}}/summary.json",
        corpus=f"{CORPUS}/manifest.json",
    output:
        f"{STUDY.runs}/probe/{{arm}}/seed{{seed}}/summary.json",
    log:
        f"{STUDY.results}/logs/probe/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{STUDY.results}/benchmarks/probe/{{arm}}-seed{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: STUDY.impl.threads
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        settings=STUDY.settings.probe.model_dump_json(),
        run=subpath(input.run, parent=True),
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m pldrepro probe --settings {params.settings:q} --run {params.run:q} --corpus {params.corpus:q}"
        " --out {params.folder:q} 2> {log:q}"
