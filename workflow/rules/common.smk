"""Names that all rules share: what is trained, and which finished runs the exhibits are made from."""

# The typed settings first: their messages name the key and what is allowed there.
STUDY = None if config["scale"] == "recorded" else load_study(config)
SETS = load_recorded(config).result_sets() if STUDY is None else [STUDY.result_set()]
# Generated from the typed settings by `python -m pldrepro schema`; a test keeps the two alike.
validate(config, "../schemas/config.schema.json", set_default=False)


wildcard_constraints:
    arm="[A-Za-z0-9_.-]+",
    seed="[0-9]+",
    checkpoint="[A-Za-z0-9_.-]+",
    group="[A-Za-z0-9_.-]+",
