"""The map of the study. `snakemake --list-target-rules` prints every target.

snakemake --cores 2                                                                the demo, everything
snakemake --cores 2 table3 --configfile config/mini.yaml --config data_root=DIR    one exhibit of another study
snakemake -n --configfile config/paper.yaml                                        the paper's settings: count the jobs, run none

  workflow/rules/data.smk      text, GLUE, images, minimal pairs -> arrays
  workflow/rules/training.smk  arrays -> calibration, pre-training, fine-tuning, probes, scores of checkpoints
  workflow/rules/analysis.smk  finished runs -> scores, tables, figures, claims, report
"""


include: "workflow/Snakefile"


rule study:
    """The report and the claims, with all that they need."""
    default_target: True
    input:
        rules.all.input,
