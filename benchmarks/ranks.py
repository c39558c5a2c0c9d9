"""What a step on several ranks sends and takes, by the number of kept layers: ``python -m benchmarks.ranks``.

Every rank is a process on this machine and holds the whole model; R ranks share one batch. With k layers kept,
each rank gives the gradients of these layers and of what is outside the layers to the all-reduce, and no others. All
k take turns, round after round. On one machine the ranks compete for its cores: seconds say how a step changes with
k, and not what a cluster would take.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pldrepro.config.run import RunSettings
from pldrepro.files import write_json
from pldrepro.runs.provenance import provenance
from pldrepro.stats import bootstrap_interval
from pldrepro.training.calibrate import Shape
from pldrepro.training.device import describe
from pldrepro.training.distributed import joined

SHAPES: dict[str, dict[str, Any]] = {
    "base": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "ffn_size": 3072, "vocab_size": 30522},
    "narrow": {"num_layers": 12, "hidden_size": 128, "num_heads": 2, "ffn_size": 512, "vocab_size": 2000},
    "tiny": {"num_layers": 4, "hidden_size": 16, "num_heads": 2, "ffn_size": 32, "vocab_size": 128},
}


def settings(shape: str, ranks: int, sequence_length: int) -> RunSettings:
    """A run of this shape; two sequences a rank."""
    values = {
        "scale": "ranks", "arm": "pld", "label": "PLD", "seed": 0,
        "model": {"norm": "pre", **SHAPES[shape]}, "data": {"sequence_length": sequence_length},
        "training": {"batch_size": 2 * ranks, "next_sentence": False}, "drop": {"dialect": "paper_alg1"},
        "impl": {"device": "cpu", "ranks": ranks, "micro_batch_size": 2 * ranks},
    }  # fmt: skip
    return RunSettings.model_validate(values)


def rank(number: int, run: RunSettings, rounds: int, port: str, results: Any) -> None:
    """One of the ranks: steps with every k, in turn; the first one hands over bytes and seconds, (rounds, L + 1)."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(run.impl.ranks), "LOCAL_RANK": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    depths = range(run.model.num_layers + 1)
    seconds, sent = np.empty((rounds, len(depths))), [0] * len(depths)
    with joined(run.impl) as world:
        shape = Shape(run, torch.device("cpu"), world)
        for round_ in range(-1, rounds):
            for kept in depths:
                world.all_reduce_max(0)
                started = time.perf_counter()
                sent[kept] = shape.step(kept)
                if round_ >= 0:
                    seconds[round_, kept] = time.perf_counter() - started
        if world.is_first:
            results.put((sent, seconds))


def measure(shape: str, ranks: int, rounds: int, sequence_length: int) -> tuple[list[int], np.ndarray]:
    """Bytes that a rank gives to the all-reduce in a step with k = 0..L layers, and seconds, (rounds, L + 1)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    run = settings(shape, ranks, sequence_length)
    processes = [spawn.Process(target=rank, args=(n, run, rounds, port, results)) for n in range(ranks)]
    for process in processes:
        process.start()
    sent, seconds = results.get()
    for process in processes:
        process.join()
    return sent, seconds


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write results/bench/ranks.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequence-length", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    options = parser.parse_args(arguments)
    sent, seconds = measure(options.shape, options.ranks, options.rounds, options.sequence_length)
    rows = []
    print(f"{options.shape}, {options.ranks} ranks: layers kept, MB sent by a rank in a step, seconds [95 % interval]")
    for kept, (size, column) in enumerate(zip(sent, seconds.T, strict=True)):
        estimate = bootstrap_interval(column, np.median, resamples=1000)
        rows.append(
            {"kept": kept, "bytes": size, "seconds": estimate.value, "low": estimate.low, "high": estimate.high}
        )
        print(f"{kept:>3} {size / 1e6:>9.2f} {estimate.value:>9.4f} [{estimate.low:.4f}, {estimate.high:.4f}]")
    impl = settings(options.shape, options.ranks, options.sequence_length).impl
    about = {"shape": options.shape, "ranks": options.ranks, "rounds": options.rounds, "steps": rows}
    write_json(options.out / "ranks.json", {**about, **provenance(describe(torch.device("cpu"), impl)).dump()})


if __name__ == "__main__":
    main()
