"""pldrepro: a reproducibility benchmark suite for layer dropping (PLD, NeurIPS 2020; SBLD, AAAI 2023).

Config in, run folder out; run folders in, tables, figures, claims and a report out. A module imports from its own
level and from those above it; what stands right of the bar never imports torch, nor what stands left of it.

Level 0  (no torch) config, drop, flops, flops_vision, formats, papers, stats, timing
Level 1  data (no torch), records (no torch), manifest (no torch), lock (no torch)
Level 1  models, optim, checkpoint, device, distributed
Level 2  lambada, objectives, sensitivity, pretrain, finetune, probe, calibrate, plan (no torch), joining (no torch)
Level 2  | evidence, pilot, metric, examples, score, tables, figures, measures, claims, reviews, report, compare, grant
Level 3  __main__
"""

__version__ = "0.1.0"
