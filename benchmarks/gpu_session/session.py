"""What the slices of a session share: where records go, the time that is left, and parts that fail one by one."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pldrepro.config.base import merge
from pldrepro.config.run import ImplSettings, RunSettings
from pldrepro.config.study import Study, load_study, read_study
from pldrepro.data.corpus import open_corpus
from pldrepro.errors import OutOfTimeError
from pldrepro.files import append_jsonl, read_json, write_json, write_text
from pldrepro.runs.provenance import provenance
from pldrepro.training.device import describe, select_device, synchronizer

MODES = {"eager": False, "compiled": True}
WARMUP = 3  # repetitions before those that are measured
LOG = "log.jsonl"  # a line for each part
ATTENTION = "attention.json"
STEPS = "gpu_text/steps.json"  # what the first session could pay for; later ones train as long
# To see on a CPU that everything runs: two layers, a few steps.
QUICK: dict[str, Any] = {
    "model": {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "ffn_size": 64},
    "data": {"sequence_length": 24},
    "training": {"num_steps": 12, "batch_size": 8, "validation_points": 2, "validation_sequences": 8},
    "impl": {"device": "cpu", "threads": 1, "micro_batch_size": 8, "precision": "float32", "compile": False,
             "log_points": 4},
}  # fmt: skip
QUICK_FINETUNE = {"sequence_length": 24, "groups": {"small": ["rte"]}, "seeds": [1], "epochs": 0.5, "max_train_examples": 32}  # fmt: skip  # noqa: E501


@dataclass
class Session:
    """A session in progress."""

    out: Path
    data: Path | None  # corpus/, glue/ and, where there are minimal pairs, contrasts/, prepared elsewhere
    seeds: tuple[int, ...]  # of the study on text
    deadline: float  # of the slice in progress, on time.monotonic
    quick: bool
    workers: int  # processes that fine-tune side by side; 0: this one
    steps: int | None = None  # of the study on text; none: what the time pays for
    failed: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)  # parts that the time was too short for

    def __post_init__(self) -> None:
        self.device = select_device(self.impl)
        self.wait = synchronizer(self.device)

    @property
    def impl(self) -> ImplSettings:
        """How everything but the studies is run."""
        values = {"threads": 1, "device": "cpu"} if self.quick else {"threads": 8, "precision": "bfloat16"}
        return ImplSettings.model_validate(values)

    @property
    def left(self) -> float:
        """Seconds left for the slice in progress."""
        return self.deadline - time.monotonic()

    def part(self, name: str, work: Callable[[], Any], seconds: float = 0, shared: bool = False) -> bool:
        """Do a part of a slice, if ``seconds`` are left for it; True where it is done.

        What goes wrong is printed and written to log.jsonl, and the next part has its turn. shared: later parts use
        what this one compiled.
        """
        started, error = time.monotonic(), ""
        try:
            if self.left < (0 if self.quick else seconds):
                raise OutOfTimeError(f"{seconds:.0f} s needed, {self.left:.0f} s left")
            work()
        except OutOfTimeError as problem:
            self.cut.append(name)
            state, error = "no time", str(problem)
        except Exception as problem:  # the time on a GPU is short: the others come first
            traceback.print_exc()
            self.failed.append(name)
            state, error = "FAILED", f"{type(problem).__name__}: {problem}"
        else:
            state = "done"
        took = round(time.monotonic() - started, 1)
        print(f"{name}: {state}, {took:.1f} s, {self.left:.0f} s left{': ' + error[:300] if error else ''}", flush=True)
        append_jsonl(self.out / LOG, {"part": name, "state": state, "seconds": took, "error": error})
        self._tidy(compiled=not shared)
        return state == "done"

    def _tidy(self, compiled: bool) -> None:
        """Give back memory that a part held, and what it compiled."""
        gc.collect()
        if compiled:
            torch.compiler.reset()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def study(self, name: str) -> Study:
        """A scale file with its results under ``out``, as this session runs it."""
        return load_study({**self.study_values(name), "results": str(self.out / name)})

    def write_study(self, name: str) -> None:
        """The study as a YAML file in the archive: with it ``pldrepro study import`` takes the records elsewhere."""
        text = yaml.safe_dump(self.study_values(name), sort_keys=False, default_flow_style=None, width=120)
        write_text(self.out / name / "study.yaml", text)

    def study_values(self, name: str) -> dict[str, Any]:
        """A scale file on this card; on text with this session's seeds, the steps that are set and what data hold."""
        values = {**read_study(Path(f"config/{name}.yaml"))}
        if name == "gpu_text":
            values["seeds"] = list(self.seeds)
            if self.data is None or not (self.data / "contrasts/manifest.json").exists():
                values["contrasts"] = {**values["contrasts"], "pairs": {}}
        if self.quick:
            size = {"vocab_size": self._vocab_size()}
            values = merge(values, {"settings": {"model": size, "data": size}})
            values = merge(values, {"settings": QUICK, "calibration": {"rounds": 3, "threads": 1}})
            if values.get("interleave"):
                values = merge(values, {"interleave": {"rounds": 3, "warmup_rounds": 1, "threads": 1}})
            if values.get("finetune", {}).get("groups"):
                values["finetune"] = {**values["finetune"], **QUICK_FINETUNE}
        values = merge(values, {"settings": {"impl": {"attention": self.attention(load_study(values))}}})
        if name == "gpu_text" and (self.out / STEPS).exists():
            values = merge(values, {"settings": {"training": read_json(self.out / STEPS)}})
        return values

    def _vocab_size(self) -> int:
        """That of the prepared corpus, where there is one."""
        return 128 if self.data is None else open_corpus(self.data / "corpus").vocab_size

    def attention(self, study: Study) -> str:
        """The kernel of attention that was the fastest on this card, with a study's dropout; auto before that."""
        path = self.out / ATTENTION
        if not path.exists():
            return study.impl.attention
        model = study.run(study.baseline, study.settings.seeds[0]).model
        case = f"{model.family}, dropout {model.attention_dropout:g}"
        return str(read_json(path)["chosen"].get(case, study.impl.attention))

    def prepared(self, name: str) -> Path:
        """A folder of prepared data."""
        if self.data is None:
            raise ValueError(f"--data: missing; allowed: a folder with {name}/manifest.json")
        return self.data / name

    def write(self, name: str, values: dict[str, Any]) -> None:
        """A record of a slice."""
        write_json(self.out / name, {**values, "provenance": provenance(describe(self.device, self.impl)).dump()})

    def median_seconds(self, work: Callable[[], Any], rounds: int) -> float:
        """Of some work, after it was done WARMUP times."""
        seconds = []
        for _ in range(WARMUP + rounds):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            seconds.append(time.perf_counter() - started)
        return float(np.median(seconds[WARMUP:]))


def with_impl(run: RunSettings, **changes: Any) -> RunSettings:
    """The same run, executed otherwise; a batch is at least a micro-batch."""
    values = run.model_dump()
    values["impl"] |= changes
    values["training"]["batch_size"] = max(values["training"]["batch_size"], values["impl"]["micro_batch_size"])
    return RunSettings.model_validate(values)
