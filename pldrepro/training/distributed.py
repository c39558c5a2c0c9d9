"""Several processes (ranks) that train one model together: who they are, what they share, and what they send.

A run on R ranks is the same run: each micro-batch is cut into R equal parts, every rank draws the same gates, and
gradients are summed. A layer that no micro-batch of a step keeps has no gradient on any rank, and because the gates
are the same everywhere each rank knows that without asking: its gradient is neither waited for nor sent.

``launch`` starts the ranks with torchrun, ``process_group`` makes a process one of them. Data parallel in the plain
sense: every rank holds the whole model. ``GradientSum`` sends gradients while the last backward pass of a step goes on.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from pldrepro.config.run import ImplSettings
from pldrepro.data.batches.rows import Batch
from pldrepro.errors import STOPPED, RankError, SettingsError

SomeBatch = TypeVar("SomeBatch", bound=Batch)
STOP_SECONDS = "600"  # that torchrun waits for the ranks to save after a signal; a scheduler's own limit comes first
ANSWER_SECONDS = 600  # that a rank waits for the others, which may be saving; then the run ends
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"  # that torchrun hands on to the ranks


@dataclass(frozen=True)
class ProcessGroup:
    """The ranks of a run, as one of them sees them; every method but ``shard`` is called by all of them alike."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that writes the run folder."""
        return self.rank == 0

    def shard(self, rows: SomeBatch) -> SomeBatch:
        """This rank's rows of a micro-batch; equal parts where their number is a multiple of the ranks."""
        if self.size == 1:
            return rows
        return rows.rows(len(rows) * self.rank // self.size, len(rows) * (self.rank + 1) // self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def all_reduce_max(self, number: int) -> int:
        """The largest of the ranks' numbers; no device waits for it."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def broadcast(self, numbers: Sequence[float]) -> list[float]:
        """The numbers of the first rank, on every rank."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64)
        distributed.broadcast(tensor, 0)
        values: list[float] = tensor.tolist()
        return values

    def on_first(self, work: Callable[[], bool]) -> bool:
        """What the first rank finds, on every rank; where that fails, the others end without a word of their own."""
        error, found = None, 0
        if self.is_first:
            try:
                found = int(work())
            except Exception as problem:
                error, found = problem, -1
        (answer,) = self.broadcast([found])
        if error is not None:
            raise error
        if answer < 0:
            raise SystemExit(1)
        return answer > 0

    def all_equal(self, values: Tensor) -> bool:
        """Whether every rank has these values, bit for bit."""
        if self.size == 1:
            return True
        bits = values.double().contiguous().view(torch.int64)  # NaN equals NaN
        first = bits.clone()
        distributed.broadcast(first, 0)
        return self.all_reduce_max(int(not torch.equal(first, bits))) == 0


SINGLE = ProcessGroup()


@contextmanager
def process_group(impl: ImplSettings) -> Iterator[ProcessGroup]:
    """The world that this process belongs to, among the ranks that torchrun started; of one with impl.ranks 1."""
    if impl.ranks == 1:
        yield SINGLE
        return
    started = os.environ.get("WORLD_SIZE", "1")
    if started != str(impl.ranks):
        raise SettingsError(f"impl.ranks {impl.ranks}, but {started} were started; expected the same number")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    on_gpu = impl.device != "cpu" and torch.cuda.is_available()
    # What decides the course of a run is exchanged on the CPU, so that no rank waits for its GPU.
    backend, patience = "cpu:gloo,cuda:nccl" if on_gpu else "gloo", timedelta(seconds=ANSWER_SECONDS)
    distributed.init_process_group(backend, timeout=patience)
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        if "Timed out waiting" in str(error):
            raise RankError(f"another rank did not answer for {ANSWER_SECONDS} s: it is stopped, or hangs") from error
        raise
    finally:
        distributed.destroy_process_group()


def end_with_parent() -> None:
    """On Linux, be killed when the process that started this rank ends: no rank is left over with the run's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def launch(impl: ImplSettings, arguments: Sequence[str]) -> None:
    """Start the ranks, with ``arguments`` for pldrepro, where several are asked for and none is started yet.

    This process is torchrun from then on, and ends with them: with status STOPPED where they were stopped in time. With
    several nodes it becomes srun first, which starts this command once a node inside the Slurm job.
    """
    if impl.ranks == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", STOP_SECONDS)
    sys.stdout.flush()
    if impl.nodes > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") != str(impl.nodes):
        if "SLURM_JOB_ID" not in os.environ:
            raise SettingsError(
                f"impl.nodes {impl.nodes}: allowed inside a Slurm job; elsewhere start torchrun yourself on each node"
            )
        nodes, cores = str(impl.nodes), str(impl.threads * impl.ranks // impl.nodes)
        step = ["srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--cpus-per-task", cores]
        os.execvp("srun", [*step, sys.executable, "-m", "pldrepro", *arguments])
    else:
        sys.exit(run_ranks(torchrun(impl, arguments)))


def run_ranks(arguments: Sequence[str]) -> int:
    """Run torchrun in this process and return its status; a rank prints its own error, here a killed one is named."""
    logging.disable(logging.ERROR)  # torchrun says in sixty lines that a rank failed
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(list(arguments))
    except SignalException:
        return STOPPED
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        failed = any(code > 0 for code in codes.values())
        for rank, code in codes.items():
            if code < 0 and not (failed and code == -signal.SIGTERM):  # with which torchrun ends the others
                print(f"rank {rank}: RankError: ended by {signal.Signals(-code).name}", file=sys.stderr)
        return STOPPED if STOPPED in codes.values() else 1
    return 0


def torchrun(impl: ImplSettings, arguments: Sequence[str]) -> list[str]:
    """The arguments with which torchrun starts the ranks of this node."""
    command = ["--nproc-per-node", str(impl.ranks // impl.nodes), "--signals-to-handle", SIGNALS]
    if impl.nodes == 1:
        command += ["--standalone"]
    else:
        # The node from which srun was called is the first of the job.
        port = 20_000 + int(os.environ["SLURM_JOB_ID"]) % 40_000
        command += ["--nnodes", str(impl.nodes), "--node-rank", os.environ["SLURM_NODEID"]]
        command += ["--master-addr", os.environ["SLURM_LAUNCH_NODE_IPADDR"], "--master-port", str(port)]
    return [*command, "-m", "pldrepro", *arguments]
