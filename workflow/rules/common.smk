"""Names that all rules share: the study, its folders, and the settings that each job gets."""

import json
import sys

validate(config, study_schema())
study = load_study(config)

RESULTS = study.results
RUNS = study.runs
CORPUS = f"{RESULTS}/data/corpus"
GLUE = f"{RESULTS}/data/glue"
GPUS = 0 if study.impl.device == "cpu" else 1
# The interpreter that runs Snakemake also runs the jobs, so that both see the same pldrepro.
PLDREPRO = f"{sys.executable} -m pldrepro"


wildcard_constraints:
    arm="[A-Za-z0-9_.-]+",
    seed="[0-9]+",
    checkpoint="[A-Za-z0-9_.-]+",
    group="[A-Za-z0-9_.-]+",
    table="[a-z0-9]+",
    figure="[a-z0-9_]+",
