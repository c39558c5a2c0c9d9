"""pldrepro: a reproducibility benchmark suite for layer dropping (PLD, NeurIPS 2020; SBLD, AAAI 2023).

Config in, run folder out; run folders in, tables, figures, claims and a report out. One folder per stage, in the
order in which data flows; a folder imports only from those above it, and ``runs`` is all that training and analysis
share:

errors, files, records, stats    what everybody may use: exceptions, atomic files, typed records, intervals
policy       what is dropped: schedules, allocations, gates
config       what is to be run: settings, arms, studies
data         text, GLUE, LAMBADA and images become arrays and batches
models       BERT, GPT, SwinV2 and ViT with gated blocks, and their checkpoints    (torch)
runs         the contract: what a run folder holds
costs        FLOPs, and the plan of a study
training     pre-training, fine-tuning, calibration, sensitivity                   (torch)
evaluation   probes and zero-shot scores of checkpoints                            (torch)
analysis     every number, no layout
exhibits     every layout, no number: tables, figures, report
"""

__version__ = "0.1.0"
