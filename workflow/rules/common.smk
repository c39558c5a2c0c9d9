"""Names that all rules share: the study, its folders, and the settings that each job gets."""

study = load_study(config)
# Generated from the typed settings by `python -m pldrepro schema`; a test keeps the two alike.
validate(config, "../schemas/config.schema.json", set_default=False)

RESULTS = study.results
RUNS = study.runs
CORPUS = f"{RESULTS}/data/corpus"
GLUE = f"{RESULTS}/data/glue"
GPUS = 0 if study.impl.device == "cpu" else 1


wildcard_constraints:
    arm="[A-Za-z0-9_.-]+",
    seed="[0-9]+",
    checkpoint="[A-Za-z0-9_.-]+",
    group="[A-Za-z0-9_.-]+",
    table="[a-z0-9]+",
    figure="[a-z0-9_]+",
