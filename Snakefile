"""The map of the whole study: text -> token arrays -> pre-training -> fine-tuning -> scores -> exhibits.

snakemake --cores 2                                        the demo, everything
snakemake --cores 2 table1 --configfile config/mini.yaml --config data_root=DIR
snakemake -n --configfile config/paper.yaml                the paper's own settings, as a plan of jobs
"""

from snakemake.utils import min_version

from pldrepro.config.jobs import calibration_threads, job_settings, rank_resources, rank_threads
from pldrepro.config.recorded import load_recorded
from pldrepro.config.study import load_study

min_version("9.0")

if not {"scale", "base"} & set(config):

    configfile: "config/demo.yaml"


include: "workflow/rules/common.smk"


if STUDY is not None:

    include: "workflow/rules/data.smk"
    include: "workflow/rules/training.smk"


include: "workflow/rules/analysis.smk"


rule all:
    default_target: True
    input:
        expand("{results}/{file}", results=RESULT_FOLDERS, file=["report.html", "claims.csv"]),
