"""Names that all rules share: what is trained, and which finished runs the exhibits are made from."""

import re

# The typed settings first: their messages name the key and what is allowed there.
STUDY = None if config["scale"] == "recorded" else load_study(config)
SETS = load_recorded(config).result_sets() if STUDY is None else [STUDY.result_set()]
# The study and its companions of other families of models, each by the folder of its results.
STUDIES = {} if STUDY is None else {one.results: one for one in STUDY.all}
# Generated from the typed settings by `python -m pldrepro schema`; a test keeps the two alike.
validate(config, "../schemas/config.schema.json", set_default=False)


wildcard_constraints:
    study="|".join(map(re.escape, STUDIES)) or "none",
    arm="[A-Za-z0-9_.-]+",
    seed="[0-9]+",
    checkpoint="[A-Za-z0-9_.-]+",
    group="[A-Za-z0-9_.-]+",


def of_study(value):
    """A parameter or resource of a job from the study that its wildcards name.

    Worked out once: thousands of jobs ask. A number that all studies share needs no function at all; a text would be
    read as a pattern of wildcards.
    """
    values = {name: value(study) for name, study in STUDIES.items()}
    distinct = set(map(str, values.values()))
    if len(distinct) == 1 and all(isinstance(one, int) for one in values.values()):
        return next(iter(values.values()))
    return lambda wildcards: values[wildcards.study]


GPUS = of_study(lambda study: 0 if study.impl.device == "cpu" else 1)
