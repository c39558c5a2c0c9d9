"""Speed of the model on the CPU: against transformers' BERT, and against the number of kept layers.

Run by ``make bench``. All candidates take turns in one process, round after round, so that a slow moment of the
machine hits them alike; a ratio is the median over rounds of the ratio within a round, with a bootstrap interval.

Training step: forward, loss, backward, AdamW, on the same token ids, predicting the same 15 % of the positions.
transformers' BertForMaskedLM applies its head to all positions, as it ships; ours to the predicted ones.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pldrepro.config.model import ModelSettings
from pldrepro.config.run import ImplSettings
from pldrepro.files import write_json
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.blocks import initialise
from pldrepro.policy.drop import Gate, all_kept
from pldrepro.runs.provenance import provenance
from pldrepro.stats import bootstrap_interval
from pldrepro.training.device import autocast
from pldrepro.training.optim import adamw, set_learning_rate

LEARNING_RATE = 1e-4
MASK_FRACTION = 0.15
NOT_PREDICTED = -100
PARTS = ("demo", "narrow", "base", "skipping")
GOAL_R2, GOAL_SHARE = 0.99, 0.95
Step = Callable[[], None]
PLAIN = ImplSettings(device="cpu")  # float32, not compiled
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}

BASE = ModelSettings(norm="post", vocab_size=30522, hidden_size=768, num_heads=12, ffn_size=3072)
NARROW = ModelSettings(norm="post", vocab_size=30522, hidden_size=128, num_heads=2, ffn_size=512)
# config/demo.yaml, and the heads that it had before.
DEMO = ModelSettings(
    norm="post", num_layers=4, hidden_size=64, num_heads=2, ffn_size=256, vocab_size=128, max_positions=48, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip
DEMO_BATCH, DEMO_SEQUENCE, EARLIER_HEADS = 32, 24, 4
TINY = ModelSettings(norm="post", num_layers=4, vocab_size=2000, hidden_size=32, num_heads=2, ffn_size=64)


class MaskedBatch:
    """Random token ids (B, S), positions to predict (B, M) and their labels."""

    def __init__(self, vocab_size: int, batch: int, sequence: int, device: str = "cpu") -> None:
        generator = torch.Generator().manual_seed(0)
        self.input_ids = torch.randint(1, vocab_size, (batch, sequence), generator=generator)
        shuffled = torch.rand(batch, sequence, generator=generator).argsort(1)
        self.positions = shuffled[:, : round(MASK_FRACTION * sequence)].sort(1).values
        self.labels = self.input_ids.gather(1, self.positions).flatten()
        self.labels_everywhere = torch.full_like(self.input_ids, NOT_PREDICTED)
        self.labels_everywhere.scatter_(1, self.positions, self.input_ids.gather(1, self.positions))
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.to(device))


class OurStep:
    """A training step of this package's model; ``kept_layers`` of its blocks, drawn anew for each step, are kept."""

    def __init__(self, settings: ModelSettings, batch: MaskedBatch, impl: ImplSettings = PLAIN) -> None:
        self.num_layers, self.batch, self.impl = settings.num_layers, batch, impl
        self.model = BertForPreTraining(settings)
        initialise(self.model, 0)
        self.model.to(batch.input_ids.device)
        if impl.compile:
            self.model.compile_blocks()
        self.optimizer = adamw(self.model, weight_decay=0.01)
        set_learning_rate(self.optimizer, LEARNING_RATE)
        self.random = random.Random(0)

    def __call__(self, kept_layers: int | None = None) -> None:
        gates = all_kept(self.num_layers)
        if kept_layers is not None:
            kept = self.random.sample(range(self.num_layers), kept_layers)
            gates = tuple(Gate(layer in kept) for layer in range(self.num_layers))
        with autocast(self.impl, self.batch.input_ids.device):
            logits, _ = self.model(self.batch.input_ids, None, self.batch.positions, gates)
            loss = functional.cross_entropy(logits, self.batch.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def transformers_steps(settings: ModelSettings, batch: MaskedBatch, impl: ImplSettings = PLAIN) -> dict[str, Step]:
    """The step of BertForMaskedLM of the same shape, with AdamW as torch chooses it and with the fused one."""
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(
        BertConfig(
            vocab_size=settings.vocab_size,
            hidden_size=settings.hidden_size,
            num_hidden_layers=settings.num_layers,
            num_attention_heads=settings.num_heads,
            intermediate_size=settings.ffn_size,
            hidden_dropout_prob=settings.dropout,
            attention_probs_dropout_prob=settings.attention_dropout,
        )
    ).train()
    model.to(batch.input_ids.device)
    run = torch.compile(model) if impl.compile else model

    def step_with(optimizer: torch.optim.Optimizer) -> Step:
        def step() -> None:
            with autocast(impl, batch.input_ids.device):
                loss = run(input_ids=batch.input_ids, labels=batch.labels_everywhere).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    return {
        "transformers, default AdamW": step_with(torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)),
        "transformers, fused AdamW": step_with(torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)),
    }


def interleave(
    steps: Mapping[str, Step], rounds: int, clock: Clock, warmup_rounds: int = 1, wait: Step = lambda: None
) -> dict[str, np.ndarray]:
    """Seconds of each step, one value per round; every round runs all steps in an order of its own.

    wait: waits until a device has done all that was queued.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    shuffle = random.Random(0)
    for round_ in range(warmup_rounds + rounds):
        for name in shuffle.sample(sorted(steps), len(steps)):
            wait()
            start = clock()
            steps[name]()
            wait()
            if round_ >= warmup_rounds:
                seconds[name].append(clock() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def estimate(values: np.ndarray) -> dict[str, float]:
    """Median over rounds with its interval."""
    result = bootstrap_interval(list(values), np.median, resamples=2000)
    return {"median": result.value, "low": float(result.low or 0), "high": float(result.high or 0), "n": result.n}


def compare(
    settings: ModelSettings, batch: MaskedBatch, goal: float, rounds: int, clock: Clock,
    others: Mapping[str, ModelSettings] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Our step against transformers': seconds, and ratios of which the default AdamW's is held against the goal.

    ``others``: other shapes of ours that take turns with them.
    """
    steps: dict[str, Step] = {"ours, fused AdamW": OurStep(settings, batch), **transformers_steps(settings, batch)}
    steps |= {f"ours, {name}": OurStep(other, batch) for name, other in (others or {}).items()}
    seconds = interleave(steps, rounds, clock)
    ours = seconds["ours, fused AdamW"]
    ratios = {name: estimate(seconds[name] / ours) for name in seconds if name != "ours, fused AdamW"}
    return {
        "model": settings.model_dump(mode="json"),
        "seconds": {name: estimate(values) for name, values in seconds.items()},
        "ratios": ratios,
        "goal": goal,
        "reached": ratios["transformers, default AdamW"]["median"] >= goal,
    }


def skip(settings: ModelSettings, batch: MaskedBatch, rounds: int, clock: Clock) -> dict[str, Any]:
    """Step time for k = 0..L kept layers: linear fit, and what leaving out a quarter of the layers saves.

    share = (t(L) - t(3L/4)) / (0.25 (t(L) - t(0))), within a round: 1 when a dropped layer costs nothing.
    """
    step = OurStep(settings, batch)
    layers = settings.num_layers

    def step_with(kept_layers: int) -> Step:
        return lambda: step(kept_layers)

    # Keys that sort by number.
    seconds = interleave({f"{k:03d}": step_with(k) for k in range(layers + 1)}, rounds, clock)
    medians = np.array([np.median(seconds[f"{k:03d}"]) for k in range(layers + 1)])
    kept = np.arange(layers + 1)
    slope, intercept = np.polyfit(kept, medians, 1)
    r2 = float(np.corrcoef(kept, medians)[0, 1] ** 2)
    three_quarters = layers * 3 // 4
    none, some, full = (seconds[f"{k:03d}"] for k in (0, three_quarters, layers))
    share = estimate((full - some) / ((layers - three_quarters) / layers * (full - none)))
    return {
        "model": settings.model_dump(mode="json"),
        "seconds": {str(k): estimate(seconds[f"{k:03d}"]) for k in range(layers + 1)},
        "fit": {"intercept": float(intercept), "slope": float(slope), "r2": r2},
        "kept": three_quarters,
        "share_saved": share,
        "reached": r2 >= GOAL_R2 and share["median"] >= GOAL_SHARE,
    }


def show_comparison(name: str, result: Mapping[str, Any]) -> None:
    """Print one comparison."""
    print(f"\n{name}: training step")
    for candidate, value in result["seconds"].items():
        ratio = result["ratios"].get(candidate)
        against = f"  {ratio['median']:.2f}x ours [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else ""
        print(f"  {candidate:30s} {1000 * value['median']:8.1f} ms{against}")
    print(f"  goal {result['goal']:.1f}x against the default: {'reached' if result['reached'] else 'not reached'}")


def show_skipping(name: str, result: Mapping[str, Any]) -> None:
    """Print the step time against the number of kept layers."""
    fit = result["fit"]
    print(f"\n{name}: training step with k kept layers")
    for kept, value in result["seconds"].items():
        fitted = fit["intercept"] + fit["slope"] * int(kept)
        print(f"  k = {kept:>2s} {1000 * value['median']:8.1f} ms   fit {1000 * fitted:8.1f} ms")
    print(f"  fit: {1000 * fit['intercept']:.1f} ms + {1000 * fit['slope']:.1f} ms x k, R2 {fit['r2']:.4f}")
    share = {key: f"{100 * value:.1f}" for key, value in result["share_saved"].items()}
    print(
        f"  k = {result['kept']} saves {share['median']} % [{share['low']}, {share['high']}] of the layers' share; "
        f"goals R2 {GOAL_R2}, {100 * GOAL_SHARE:.0f} %: {'reached' if result['reached'] else 'not reached'}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write ``<output>/model_speed.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny model, few rounds, one thread: only to see that it runs"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default all)")
    parser.add_argument("--rounds", type=int, default=12, help="interleaved repetitions (default 12)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: CPU seconds of the process, for a busy machine; with --threads 1, since waiting threads spin",
    )
    parser.add_argument("--output", type=Path, default=Path("results/bench"), help="folder of the JSON")
    options = parser.parse_args(arguments)
    threads = 1 if options.quick else options.threads
    torch.set_num_threads(threads)
    clock = CLOCKS[options.clock]
    rounds = 3 if options.quick else options.rounds
    base, narrow = (TINY, TINY) if options.quick else (BASE, NARROW)
    data = MaskedBatch(base.vocab_size, *((2, 16) if options.quick else (8, 128)))
    batch, sequence = data.input_ids.shape
    result: dict[str, Any] = {"batch": batch, "sequence": sequence, "threads": threads, "rounds": rounds}
    result["clock"] = options.clock
    if options.quick:
        print("quick: a tiny model; the goals are those of the full one")
    if "demo" in options.parts:
        small = MaskedBatch(DEMO.vocab_size, DEMO_BATCH, DEMO_SEQUENCE)
        heads = DEMO.model_copy(update={"num_heads": EARLIER_HEADS})
        name = f"{EARLIER_HEADS} heads of {DEMO.hidden_size // EARLIER_HEADS}"
        result["demo"] = compare(DEMO, small, goal=1.5, rounds=rounds * 10, clock=clock, others={name: heads})
        show_comparison("the demo's model", result["demo"])
    if "narrow" in options.parts:
        result["narrow"] = compare(narrow, data, goal=2.0, rounds=rounds, clock=clock)
        show_comparison(f"H {narrow.hidden_size}", result["narrow"])
    if "base" in options.parts:
        result["base"] = compare(base, data, goal=1.2, rounds=rounds, clock=clock)
        show_comparison(f"H {base.hidden_size}", result["base"])
    if "skipping" in options.parts:
        result["skipping"] = skip(base.model_copy(update={"norm": "pre"}), data, rounds, clock)
        show_skipping(f"H {base.hidden_size}, PreLN", result["skipping"])
    device = {"type": "cpu", "threads": threads}
    write_json(options.output / "model_speed.json", {**result, "provenance": provenance(device).dump()})


if __name__ == "__main__":
    main()
