"""The sum of all ranks' gradients, sent in buckets while the last backward pass of a step still runs.

As in PyTorch's DistributedDataParallel (Li et al., VLDB 2020), gradients that are ready travel while others are
computed. Unlike there, nothing is sent for a dropped layer and nobody waits for it: the gates, which are the same on
every rank, say beforehand which gradients there will be. So all ranks cut the same buckets and send them in the same
order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, distributed, nn

from pldrepro.policy.drop import Gate
from pldrepro.training.distributed import ProcessGroup
from pldrepro.training.objectives import blocks_of

BUCKET_BYTES = 25_000_000  # gradients that are sent as one message


class GradientSum:
    """Sums a model's gradients over the ranks, once a step: ``start`` before the last backward pass, then ``finish``.

    Without ``start`` all gradients are sent by ``finish``. Which parameters a loss reaches is learned from earlier
    passes, so that what has its first gradient in the pass after ``start`` is sent by ``finish``, too.
    """

    def __init__(self, world: ProcessGroup, model: nn.Module) -> None:
        self.world = world
        # Gradients are ready from the last layer to the first.
        self.parameters = list(model.parameters())[::-1]
        self.layers = {
            parameter: layer for layer, block in enumerate(blocks_of(model)) for parameter in block.parameters()
        }
        self.reached: set[nn.Parameter] = set()  # had a gradient in an earlier pass
        self.buckets: list[list[nn.Parameter]] = []  # of this step, in the order in which they are sent
        self.awaited: set[nn.Parameter] = set()  # get their gradient in the pass that is running
        self.sent: list[tuple[list[nn.Parameter], Tensor, distributed.Work]] = []
        if world.size > 1:
            for parameter in self.parameters:
                parameter.register_post_accumulate_grad_hook(self._ready)

    def start(self, gates: Sequence[Gate]) -> None:
        """Before the last backward pass of a step, whose gates these are: send what is ready, as soon as it is."""
        if self.world.size == 1:
            return
        self.reached.update(parameter for parameter in self.parameters if parameter.grad is not None)
        self.awaited = {
            parameter
            for parameter in self.reached
            if parameter not in self.layers or gates[self.layers[parameter]].keep
        }
        ready_or_awaited = (p for p in self.parameters if p.grad is not None or p in self.awaited)
        self.buckets = list(in_buckets(ready_or_awaited))
        self._send_ready()

    def _ready(self, parameter: nn.Parameter) -> None:
        """Autograd's call when this parameter has its gradient of the pass."""
        if parameter in self.awaited:
            self.awaited.remove(parameter)
            self._send_ready()

    def _send_ready(self) -> None:
        # Always in order: the ranks must give their buckets to the all-reduce alike.
        while len(self.sent) < len(self.buckets) and self.awaited.isdisjoint(self.buckets[len(self.sent)]):
            self._send(self.buckets[len(self.sent)])

    def _send(self, bucket: list[nn.Parameter]) -> None:
        flat = torch.cat([gradient_of(parameter).reshape(-1) for parameter in bucket])
        self.sent.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))

    def finish(self) -> int:
        """After the last backward pass: send the rest and wait; returns the bytes that this rank gave [B].

        All ranks have gradients for the same parameters, because they drew the same gates.
        """
        if self.world.size == 1:
            return 0
        travelling = {parameter for bucket, _, _ in self.sent for parameter in bucket}
        left = [p for p in self.parameters if p.grad is not None and p not in travelling]
        self.buckets, self.awaited = [], set()
        for bucket in in_buckets(left):
            self._send(bucket)
        for bucket, flat, work in self.sent:
            work.wait()
            for parameter, total in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                gradient_of(parameter).copy_(total.view_as(parameter))
        sent, self.sent = self.sent, []
        self.reached.update(parameter for bucket, _, _ in sent for parameter in bucket)
        return sum(flat.nbytes for _, flat, _ in sent)


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """The gradient of a parameter that has one."""
    assert parameter.grad is not None
    return parameter.grad


def in_buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in their order, in lists of about BUCKET_BYTES of one dtype."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size + parameter.nbytes > BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    if bucket:
        yield bucket
