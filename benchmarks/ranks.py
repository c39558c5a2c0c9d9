"""What a step on several ranks sends and takes, by the number of kept layers: ``python -m benchmarks.ranks``.

Three ways to sum the gradients take turns, round after round, for every k: while the backward pass goes on (as in
training), after it, and PyTorch's DistributedDataParallel, which looks for the dropped layers by itself. With k layers
kept, each rank gives the gradients of these layers and of what is outside the layers to the all-reduce, and no others.

The ranks are processes of this machine, each with a whole model and one thread, that share one batch. ``--link 1gbit``
gives each a network namespace of its own, joined by virtual cables of that rate (needs root): on loopback a message
costs next to nothing, between the hosts of a cluster it does not. On one machine the ranks compete for its cores:
seconds compare the three ways, and do not say what a cluster would take.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pldrepro.config.run import RunSettings
from pldrepro.files import read_json, write_json
from pldrepro.policy.drop import Gate
from pldrepro.runs.provenance import provenance
from pldrepro.stats import bootstrap_interval
from pldrepro.training.calibrate import Shape
from pldrepro.training.device import describe
from pldrepro.training.distributed import ProcessGroup, process_group
from pldrepro.training.optim import MAX_GRADIENT_NORM

SHAPES: dict[str, dict[str, Any]] = {
    "base": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "ffn_size": 3072, "vocab_size": 30522},
    "middle": {"num_layers": 6, "hidden_size": 384, "num_heads": 6, "ffn_size": 1536, "vocab_size": 8000},
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


class AfterBackward(Shape):
    """The step of training, but for its gradients, which are sent when all of them are ready."""

    def __init__(self, run: RunSettings, device: torch.device, world: ProcessGroup) -> None:
        super().__init__(run, device, world)
        self.gradients.start = lambda gates: None  # type: ignore[method-assign]


class LossOf(nn.Module):
    """A model with its loss as its forward pass, as DistributedDataParallel wants it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model, self.shape = shape.model, [shape]  # in a list: no module of this one

    def forward(self, gates: tuple[Gate, ...]) -> Tensor:
        """The loss of this rank's part of the batch; a scalar."""
        (shape,) = self.shape
        loss, _ = shape.objective.loss(shape.model, shape.world.shard(shape.batch), shape.batch, gates)
        return loss


class Wrapped(Shape):
    """The same step with DistributedDataParallel."""

    def __init__(self, run: RunSettings, device: torch.device, world: ProcessGroup) -> None:
        super().__init__(run, device, world)
        self.parallel = DistributedDataParallel(LossOf(self), find_unused_parameters=True)

    def step(self, kept_layers: int) -> int:
        """One optimizer step; what DistributedDataParallel sends is not known here."""
        self.parallel(tuple(Gate(layer < kept_layers) for layer in range(self.run.model.num_layers))).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return 0


WAYS: dict[str, type[Shape]] = {
    "overlapped": Shape,
    "after the backward pass": AfterBackward,
    "DistributedDataParallel": Wrapped,
}


def rank(run: RunSettings, rounds: int, out: Path) -> None:
    """One of the ranks; the first one writes bytes (L + 1) and seconds (ways, rounds, L + 1) to a JSON file."""
    torch.set_num_threads(1)
    depths = range(run.model.num_layers + 1)
    seconds, sent = np.empty((len(WAYS), rounds, len(depths))), [0] * len(depths)
    with process_group(run.impl) as world:
        shapes = [way(run, torch.device("cpu"), world) for way in WAYS.values()]
        for round_ in range(-1, rounds):
            for kept in depths:
                for number, shape in enumerate(shapes):
                    world.all_reduce_max(0)
                    started = time.perf_counter()
                    sent[kept] = shape.step(kept) or sent[kept]
                    if round_ >= 0:
                        seconds[number, round_, kept] = time.perf_counter() - started
        if world.is_first:
            write_json(out, {"bytes": sent, "seconds": seconds.tolist()})


# ---- the ranks and their network ----


@contextlib.contextmanager
def network(ranks: int, rate: str | None) -> Iterator[list[tuple[list[str], str]]]:
    """Of each rank what to put before its command, and its address; loopback where no rate is given."""
    if rate is None:
        yield [([], "127.0.0.1")] * ranks
        return
    names = [f"ranks{os.getpid()}n{number}" for number in range(ranks)]
    bridge = f"br{os.getpid()}"
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for number, name in enumerate(names):
            cable = f"v{number}p{os.getpid()}"
            ip("netns", "add", name)
            ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", cable, "master", bridge, "up")
            ip("-n", name, "address", "add", f"10.213.0.{number + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
            limit = ["root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]
            subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "eth0", *limit], check=True)
        yield [(["ip", "netns", "exec", name], f"10.213.0.{number + 1}") for number, name in enumerate(names)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "delete", bridge], check=False, stderr=subprocess.DEVNULL)


def ip(*arguments: str) -> None:
    """Run iproute2's ``ip``."""
    subprocess.run(["ip", *arguments], check=True)


def measure(
    shape: str, ranks: int, rounds: int, sequence_length: int, rate: str | None, out: Path
) -> tuple[list[int], np.ndarray]:
    """Bytes that a rank gives to the all-reduce in a step with k = 0..L layers, and seconds, (ways, rounds, L + 1)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.ranks", "--shape", shape, "--ranks", str(ranks)]
    command += ["--rounds", str(rounds), "--sequence-length", str(sequence_length), "--out", str(out), "--rank"]
    with network(ranks, rate) as hosts:
        first = hosts[0][1]
        shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": first, "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        shared |= {} if rate is None else {"GLOO_SOCKET_IFNAME": "eth0"}
        processes = [
            subprocess.Popen(
                [*before, *command, str(number)],
                env={**os.environ, **shared, "RANK": str(number), "LOCAL_RANK": str(number)},
            )
            for number, (before, _) in enumerate(hosts)
        ]
        codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"ranks ended with {codes}")
    found = read_json(out / "rank0.json")
    (out / "rank0.json").unlink()
    return found["bytes"], np.array(found["seconds"])


def rows_of(sent: list[int], seconds: np.ndarray) -> list[dict[str, Any]]:
    """A row for each way and k: bytes that our ways send, the median of its seconds with its interval."""
    rows = []
    for way, times in zip(WAYS, seconds, strict=True):
        for kept, (size, column) in enumerate(zip(sent, times.T, strict=True)):
            estimate = bootstrap_interval(column, np.median, resamples=1000)
            row = {"way": way, "kept": kept, "seconds": estimate.value, "low": estimate.low, "high": estimate.high}
            rows.append(row | ({} if way == "DistributedDataParallel" else {"bytes": size}))
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write results/bench/ranks.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequence-length", type=int, default=64)
    parser.add_argument("--link", help="rate of a virtual cable for each rank, as tc writes it: 1gbit; needs root")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    run = settings(options.shape, options.ranks, options.sequence_length)
    if options.rank is not None:
        rank(run, options.rounds, options.out / "rank0.json")
        return
    sent, seconds = measure(
        options.shape, options.ranks, options.rounds, options.sequence_length, options.link, options.out
    )
    rows = rows_of(sent, seconds)
    link = options.link or "loopback"
    print(f"{options.shape}, {options.ranks} ranks, {link}: layers kept, MB sent by a rank in a step,")
    print("seconds of a step [95 % interval]: " + ", ".join(WAYS))
    for kept, size in enumerate(sent):
        cells = [f"{r['seconds']:8.4f} [{r['low']:.4f}, {r['high']:.4f}]" for r in rows if r["kept"] == kept]
        print(f"{kept:>3} {size / 1e6:>9.2f} " + " ".join(cells))
    about = {"shape": options.shape, "ranks": options.ranks, "link": link, "rounds": options.rounds, "steps": rows}
    write_json(options.out / "ranks.json", {**about, **provenance(describe(torch.device("cpu"), run.impl)).dump()})


if __name__ == "__main__":
    main()
