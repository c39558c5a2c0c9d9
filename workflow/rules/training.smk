"""Training: calibration, steps measured in turn, pre-training, fine-tuning, probes, LAMBADA and contrasts. Each rule leaves a run folder; its summary is the output.

Resume checkpoints live in the run folder too, but are not declared: Snakemake removes outputs of a failed job.
`exec`, so that a signal for the job reaches Python and not a shell that would die first.
"""


rule calibrate:
    """Measure the time of a step with k kept layers, for each k."""
    input:
        settings="{study}/runs/settings/calibration.json",
    output:
        "{study}/runs/calibration/summary.json",
    log:
        "{study}/logs/calibrate.log",
    benchmark:
        "{study}/benchmarks/calibrate.tsv"
    conda:
        "../envs/training.yaml"
    # Step times are measured with the machine to itself.
    threads: of_study(calibration_threads)
    resources:
        **RANKS,
        mem_mb=4000,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run calibrate --settings {input.settings:q} --out {params.folder:q} 2> {log:q}"


rule interleave:
    """Measure steps of the arms in turn, in one process."""
    input:
        settings="{study}/runs/settings/interleave.json",
    output:
        "{study}/runs/interleave/process{process}/summary.json",
    log:
        "{study}/logs/interleave/process{process}.log",
    benchmark:
        "{study}/benchmarks/interleave-{process}.tsv"
    conda:
        "../envs/training.yaml"
    threads: of_study(calibration_threads)
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run interleave --settings {input.settings:q} --process {wildcards.process} --out {params.folder:q} 2> {log:q}"


rule pretrain:
    """Pre-train one arm with one seed."""
    input:
        settings="{study}/runs/settings/{arm}-seed{seed}.json",
        data=of_study(prepared_manifest),
        # Step times vary from one calibration to the next: a new one prices runs anew, it does not repeat them.
        calibration=ancient("{study}/runs/calibration/summary.json"),
    output:
        "{study}/runs/pretrain/{arm}/seed{seed}/summary.json",
    log:
        "{study}/logs/pretrain/{arm}/seed{seed}.log",
    benchmark:
        "{study}/benchmarks/pretrain/{arm}-seed{seed}.tsv"
    conda:
        "../envs/training.yaml"
    threads: of_study(run_threads)
    resources:
        **RANKS,
        mem_mb=4000,
    params:
        data=subpath(input.data, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run pretrain --settings {input.settings:q} --data {params.data:q}"
        " --calibration {input.calibration:q} --out {params.folder:q} 2> {log:q}"


rule finetune:
    """Fine-tune one checkpoint on one group of tasks."""
    input:
        settings="{study}/runs/settings/finetune.json",
        run="{study}/runs/pretrain/{arm}/seed{seed}/summary.json",
        glue="{study}/data/glue/manifest.json",
    output:
        "{study}/runs/finetune/{arm}/seed{seed}/{checkpoint}/{group}/summary.json",
    log:
        "{study}/logs/finetune/{arm}/seed{seed}-{checkpoint}-{group}.log",
    benchmark:
        "{study}/benchmarks/finetune/{arm}-seed{seed}-{checkpoint}-{group}.tsv"
    conda:
        "../envs/training.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        run=subpath(input.run, parent=True),
        glue=subpath(input.glue, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run finetune --settings {input.settings:q} --run {params.run:q} --checkpoint {wildcards.checkpoint}"
        " --group {wildcards.group} --glue {params.glue:q} --out {params.folder:q} 2> {log:q}"


rule probe:
    """Gradient norms, similarity and lesions of the checkpoints of one run."""
    input:
        settings="{study}/runs/settings/probe.json",
        run="{study}/runs/pretrain/{arm}/seed{seed}/summary.json",
        corpus="{study}/data/corpus/manifest.json",
    output:
        "{study}/runs/probe/{arm}/seed{seed}/summary.json",
    log:
        "{study}/logs/probe/{arm}/seed{seed}.log",
    benchmark:
        "{study}/benchmarks/probe/{arm}-seed{seed}.tsv"
    conda:
        "../envs/training.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        run=subpath(input.run, parent=True),
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run probe --settings {input.settings:q} --run {params.run:q} --corpus {params.corpus:q}"
        " --out {params.folder:q} 2> {log:q}"


rule early:
    """Gradient norms early in training, of a short run."""
    input:
        settings="{study}/runs/settings/early.{arm}-seed{seed}.json",
        corpus="{study}/data/corpus/manifest.json",
    output:
        "{study}/runs/early/{arm}/seed{seed}/summary.json",
    log:
        "{study}/logs/early/{arm}/seed{seed}.log",
    benchmark:
        "{study}/benchmarks/early/{arm}-seed{seed}.tsv"
    conda:
        "../envs/training.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run early --settings {input.settings:q} --corpus {params.corpus:q} --out {params.folder:q} 2> {log:q}"


rule lambada:
    """Predict the last words of LAMBADA with one model."""
    input:
        run="{study}/runs/pretrain/{arm}/seed{seed}/summary.json",
        corpus="{study}/data/corpus/manifest.json",
    output:
        "{study}/runs/lambada/{arm}/seed{seed}/summary.json",
    log:
        "{study}/logs/lambada/{arm}/seed{seed}.log",
    benchmark:
        "{study}/benchmarks/lambada/{arm}-seed{seed}.tsv"
    conda:
        "../envs/training.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        run=subpath(input.run, parent=True),
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run lambada --run {params.run:q} --corpus {params.corpus:q} --out {params.folder:q} 2> {log:q}"


rule score_contrasts:
    """Minimal pairs and cloze contrasts of the checkpoints of one run."""
    input:
        settings="{study}/runs/settings/contrasts.json",
        run="{study}/runs/pretrain/{arm}/seed{seed}/summary.json",
        corpus="{study}/data/corpus/manifest.json",
        prepared="{study}/data/contrasts/manifest.json",
    output:
        "{study}/runs/contrasts/{arm}/seed{seed}/summary.json",
    log:
        "{study}/logs/contrasts/{arm}/seed{seed}.log",
    benchmark:
        "{study}/benchmarks/contrasts/{arm}-seed{seed}.tsv"
    conda:
        "../envs/training.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=4000,
    params:
        run=subpath(input.run, parent=True),
        corpus=subpath(input.corpus, parent=True),
        prepared=subpath(input.prepared, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "exec python -m pldrepro run contrasts --settings {input.settings:q} --run {params.run:q} --corpus {params.corpus:q}"
        " --items {params.prepared:q} --out {params.folder:q} 2> {log:q}"
