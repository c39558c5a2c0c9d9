"""pldrepro: a reproducibility benchmark suite for layer dropping (PLD, NeurIPS 2020; SBLD, AAAI 2023).

Config in, run folder out; run folders in, tables, figures, claims and a report out.

Level 0 (no torch)  config, drop, papers, stats, timing
Level 1             data, models, optim, checkpoint, records
Level 2             pretrain, finetune, calibrate, plan | score, tables, figures, claims, report (no torch)
Level 3             __main__
"""

__version__ = "0.1.0"
