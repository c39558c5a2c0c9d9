"""Several processes (ranks) that train one model together: who they are, what they share, and what they send.

A run on R ranks is the same run: each micro-batch is cut into R equal parts, every rank draws the same gates, and
gradients are summed. A layer that no micro-batch of a step keeps has no gradient on any rank, and because the gates
are the same everywhere each rank knows that without asking: its gradient is neither waited for nor sent.

``launch`` starts the ranks with torchrun, ``joined`` makes a process one of them. Data parallel in the plain sense:
every rank holds the whole model. Gradients are sent after the last backward pass of a step, not during it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from pldrepro.config.run import ImplSettings
from pldrepro.data.batches.rows import Batch
from pldrepro.errors import SettingsError

SomeBatch = TypeVar("SomeBatch", bound=Batch)
BUCKET_BYTES = 25_000_000  # gradients that are sent as one message
STOP_SECONDS = "600"  # that torchrun waits for the ranks to save after a signal; a scheduler's own limit comes first
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

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> int:
        """Sum the gradients that there are; returns the bytes that this rank gave to the all-reduce.

        All ranks have gradients for the same parameters, because they drew the same gates.
        """
        if self.size == 1:
            return 0
        sent = []
        for bucket in buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            sent.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
        for bucket, flat, work in sent:
            work.wait()
            for gradient, total in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(total.view_as(gradient))
        return sum(flat.numel() * flat.element_size() for _, flat, _ in sent)

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

    def all_equal(self, values: Tensor) -> bool:
        """Whether every rank has these values, bit for bit."""
        if self.size == 1:
            return True
        bits = values.double().contiguous().view(torch.int64)  # NaN equals NaN
        first = bits.clone()
        distributed.broadcast(first, 0)
        return self.all_reduce_max(int(not torch.equal(first, bits))) == 0


SINGLE = ProcessGroup()


def buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in their order, in lists of about BUCKET_BYTES of one dtype."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.nbytes > BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


@contextmanager
def joined(impl: ImplSettings) -> Iterator[ProcessGroup]:
    """The world that this process belongs to, among the ranks that torchrun started; alone with impl.ranks 1."""
    if impl.ranks == 1:
        yield SINGLE
        return
    started = os.environ.get("WORLD_SIZE", "1")
    if started != str(impl.ranks):
        raise SettingsError(f"impl.ranks {impl.ranks}, but {started} were started; allowed: as many")
    on_gpu = impl.device != "cpu" and torch.cuda.is_available()
    # What decides the course of a run is exchanged on the CPU, so that no rank waits for its GPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def launch(impl: ImplSettings, arguments: Sequence[str]) -> None:
    """Become torchrun, with ``arguments`` for pldrepro, where several ranks are asked for and none is started yet.

    With several nodes it becomes srun first, which starts this command once a node inside the Slurm job.
    """
    if impl.ranks == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    command = [sys.executable, "-m", "pldrepro", *arguments]
    if impl.nodes > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") != str(impl.nodes):
        if "SLURM_JOB_ID" not in os.environ:
            raise SettingsError(
                f"impl.nodes {impl.nodes}: allowed inside a Slurm job; elsewhere start torchrun yourself on each node"
            )
        nodes, cores = str(impl.nodes), str(impl.threads * impl.ranks // impl.nodes)
        step = ["srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--cpus-per-task", cores]
        command = [*step, *command]
    else:
        command = torchrun(impl, arguments)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", STOP_SECONDS)
    sys.stdout.flush()
    os.execvp(command[0], command)


def torchrun(impl: ImplSettings, arguments: Sequence[str]) -> list[str]:
    """The command that starts the ranks of this node."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(impl.ranks // impl.nodes)]
    command += ["--signals-to-handle", SIGNALS]
    if impl.nodes == 1:
        command += ["--standalone"]
    else:
        # The node from which srun was called is the first of the job.
        port = 20_000 + int(os.environ["SLURM_JOB_ID"]) % 40_000
        command += ["--nnodes", str(impl.nodes), "--node-rank", os.environ["SLURM_NODEID"]]
        command += ["--master-addr", os.environ["SLURM_LAUNCH_NODE_IPADDR"], "--master-port", str(port)]
    return [*command, "-m", "pldrepro", *arguments]
