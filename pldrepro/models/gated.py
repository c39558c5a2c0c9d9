"""Gates on the residual blocks of any model, a plain model of transformers first of all.

``gate_blocks`` finds the blocks and replaces the ``forward`` of each, only on the instance: no parameter, buffer or
submodule is added, so ``state_dict``, ``save_pretrained`` and ``from_pretrained`` stay what they are. Outside of
``using`` the model is the plain one, bit for bit. A block whose gate is not kept is not computed: it returns the
hidden states that it was given.

Differs from the paper: a kept block is scaled as a whole, x + s (f(x) - x), while PLD scales each of its two
sublayers; the two agree for s = 1. In a model with PostLN the LayerNorm that ends a block is skipped and scaled
along with it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pldrepro.policy.drop import all_kept

Scale = float | Tensor
OWN_DROPPING = re.compile(r"layer_?drop|drop_?path|stochastic_?depth", re.IGNORECASE)
CACHES = ("past_key_values", "past_key_value", "layer_past", "cache_params")  # names of a block's parameter
INPUT = "hidden_states"
MADE = "<made>"  # no name of an argument


class AnyGate(Protocol):
    """``pldrepro.policy.drop.Gate``; its scale may also be a 0-d tensor, which may require a gradient."""

    @property
    def keep(self) -> bool:
        """Whether the block is computed."""

    @property
    def scale(self) -> Scale:
        """The factor on what the block adds to its input."""


@dataclass(frozen=True)
class Found:
    """A list of blocks in a model: its name, which for stages names several lists, and the blocks."""

    name: str
    blocks: tuple[nn.Module, ...]

    def __str__(self) -> str:
        return f"{self.name} ({len(self.blocks)} x {type(self.blocks[0]).__name__})"


def gate_blocks(
    model: nn.Module,
    blocks: str | Sequence[str] | Sequence[nn.Module] | None = None,
    allow_own_dropping: bool = False,
) -> GatedBlocks:
    """Put a gate on every residual block of a model.

    blocks: the name of the list of blocks ("transformer.h"), several names in order of depth, or the modules
    themselves; None: the one list of at least two blocks of one class that the model has, stages counting as one list.
    A model without such a list or with more than one, one that drops layers itself (unless ``allow_own_dropping``)
    and one that has gates already is a ValueError.
    """
    found = _named(model, blocks) if blocks is not None else _search(model)
    if not allow_own_dropping:
        _refuse_own_dropping(model)
    return GatedBlocks(model, found)


class GatedBlocks:
    """The blocks of a model, in order of depth, and the gates that they obey."""

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        if len({id(block) for block in blocks}) != len(blocks):
            raise ValueError("a block is listed twice; allowed: blocks that share no weights")
        names = {id(module): name for name, module in model.named_modules()}
        absent = [type(block).__name__ for block in blocks if id(block) not in names]
        if absent:
            raise ValueError(f"{absent[0]}: not a module of the model; allowed: its own blocks")
        self.blocks = tuple(blocks)
        self.names = tuple(names[id(block)] for block in blocks)
        for name, block in zip(self.names, self.blocks, strict=True):
            if isinstance(block.__dict__.get("forward"), _GatedForward):
                raise ValueError(f"{name}: has a gate already; allowed: remove() of the earlier gates first")
        self._forwards = [_GatedForward(block, name) for block, name in zip(self.blocks, self.names, strict=True)]
        for block, forward in zip(self.blocks, self._forwards, strict=True):
            block.__dict__["forward"] = forward

    def __len__(self) -> int:
        return len(self.blocks)

    @contextmanager
    def using(self, gates: Sequence[AnyGate] | None = None) -> Iterator[None]:
        """The model with these gates, one per block, else ValueError; None: all kept.

        Gradient checkpointing that recomputes several blocks at once (the stages of Swin) needs the backward pass
        inside the context, too. A cache of keys and values is refused inside: a dropped block would leave a hole.
        """
        chosen: Sequence[AnyGate] = all_kept(len(self)) if gates is None else gates
        if len(chosen) != len(self):
            raise ValueError(f"{len(chosen)} gates for {len(self)} blocks; allowed: one gate per block")
        earlier = [forward.gate for forward in self._forwards]
        for forward, gate in zip(self._forwards, chosen, strict=True):
            forward.gate = gate
        try:
            yield
        finally:
            for forward, before in zip(self._forwards, earlier, strict=True):
                forward.gate = before

    def remove(self) -> None:
        """Give the blocks their own forward back."""
        for forward in self._forwards:
            forward.remove()


class _GatedForward:
    """The forward of one block, which obeys a gate where there is one.

    A class and not a closure, so that a deep copy of the model gets gates of its own.
    """

    def __init__(self, block: nn.Module, name: str) -> None:
        self.block, self.name = block, name
        self.gate: AnyGate | None = None
        self.had_own = "forward" in block.__dict__  # on the instance, as accelerate does it
        self.plain = block.forward
        self.parameters = tuple(inspect.signature(block.forward).parameters)
        # How the block returns its hidden states, once known; with output_attentions it may do so in another way.
        self.formats: dict[bool, _Format] = {}

    def remove(self) -> None:
        if self.block.__dict__.get("forward") is not self:
            return
        del self.block.__dict__["forward"]
        if self.had_own:
            self.block.__dict__["forward"] = self.plain

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        gate = self.gate
        if gate is None:
            return self.plain(*args, **kwargs)
        arguments = {**dict(zip(self.parameters, args, strict=False)), **kwargs}
        if any(arguments.get(name) is not None for name in CACHES):
            raise ValueError(
                f"{self.name}: a cache of keys and values under gates; allowed: use_cache=False "
                "(a dropped block would leave a hole in it)"
            )
        hidden = args[0] if args else kwargs.get(INPUT)
        if not isinstance(hidden, Tensor):
            raise ValueError(f"{self.name}: no hidden states; allowed: as the first argument, or as {INPUT}")
        asked = bool(arguments.get("output_attentions"))
        if gate.keep:
            output = self.plain(*args, **kwargs)
            if asked not in self.formats:
                self.formats[asked] = _format(self.name, output, hidden, arguments)
            return _scaled(output, hidden, gate.scale)
        if asked not in self.formats:
            self.formats[asked] = _format(self.name, self._unnoticed(args, kwargs), hidden, arguments)
        return self.formats[asked].skipped(self.name, hidden, arguments)

    def _unnoticed(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the block returns; no gradient, no random number is spent. Once per block, to learn its format."""
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        devices = {tensor.device for tensor in tensors if tensor.is_cuda}
        with torch.no_grad(), torch.random.fork_rng(devices):
            return self.plain(*args, **kwargs)


@dataclass(frozen=True)
class _Format:
    """What a block returns: hidden states, by themselves or first in a tuple, and what comes after them there."""

    is_tuple: bool
    others: tuple[str | None, ...]  # None, the argument that is handed on, or MADE where the block computes something

    def skipped(self, name: str, hidden: Tensor, arguments: Mapping[str, Any]) -> Any:
        """What a dropped block returns: its input, and the arguments that it would hand on."""
        if MADE in self.others:
            raise ValueError(
                f"{name}: dropped, but its output {self.others.index(MADE) + 1} is needed by others; allowed: to keep "
                "it (T5's first block computes the position biases of all), and no output_attentions"
            )
        if not self.is_tuple:
            return hidden
        return (hidden, *(None if other is None else arguments.get(other) for other in self.others))


def _format(name: str, output: Any, hidden: Tensor, arguments: Mapping[str, Any]) -> _Format:
    """The format of a block's output; a block that changes the shape of its hidden states is a ValueError."""
    first, *others = output if isinstance(output, tuple) else (output,)
    if not isinstance(first, Tensor) or first.shape != hidden.shape:
        returned = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ValueError(
            f"{name}: takes hidden states {tuple(hidden.shape)} and returns {returned}; allowed: blocks that return "
            "hidden states of the same shape, by themselves or first in a tuple"
        )
    handed_on = {id(value): argument for argument, value in arguments.items() if value is not None}
    kinds = tuple(None if value is None else handed_on.get(id(value), MADE) for value in others)
    return _Format(isinstance(output, tuple), kinds)


def _scaled(output: Any, hidden: Tensor, scale: Scale) -> Any:
    """x + s (f(x) - x) in place of the block's hidden states; a scale of 1.0 returns the output itself."""
    if not isinstance(scale, Tensor) and scale == 1:
        return output
    if isinstance(output, tuple):
        return (hidden + scale * (output[0] - hidden), *output[1:])
    return hidden + scale * (output - hidden)


def _named(model: nn.Module, blocks: str | Sequence[str] | Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """The blocks that were named or given, in order."""
    listed: list[str | nn.Module] = [blocks] if isinstance(blocks, str) else list(blocks)
    candidates = {candidate.name: candidate.blocks for candidate in _candidates(model)}
    found: list[nn.Module] = []
    for entry in listed:
        if not isinstance(entry, str):
            found.append(entry)
            continue
        if entry in candidates:
            found += candidates[entry]
            continue
        try:
            module = model.get_submodule(entry)
        except AttributeError:
            raise ValueError(f"blocks: the model has no {entry!r}; {_candidates_text(model)}") from None
        if not isinstance(module, nn.ModuleList | nn.Sequential) or not len(module):
            raise ValueError(f"blocks: {entry!r} is not a list of blocks; {_candidates_text(model)}")
        found += module
    if not found:
        raise ValueError(f"blocks: empty; {_candidates_text(model)}")
    return tuple(found)


def _search(model: nn.Module) -> tuple[nn.Module, ...]:
    """The one list of blocks that the model has."""
    candidates = _candidates(model)
    if len(candidates) != 1:
        problem = f"{'more than one list' if candidates else 'no list'} of residual blocks of one class"
        raise ValueError(f"{type(model).__name__}: {problem}; {_candidates_text(model)}")
    return candidates[0].blocks


def _candidates_text(model: nn.Module) -> str:
    candidates = _candidates(model)
    if not candidates:
        return "allowed: blocks, the names of the lists or the modules"
    return f"allowed for blocks: {', '.join(map(str, candidates))}"


def _candidates(model: nn.Module) -> list[Found]:
    """Lists of two or more blocks of one class, those inside of other blocks left out."""
    found: list[Found] = []
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in inside or not isinstance(module, nn.ModuleList):
            continue
        blocks, path = tuple(module), name
        stages = _stages(blocks)
        if stages is not None:
            inner, blocks = stages
            path = f"{name}.*.{inner}"
        if len(blocks) >= 2 and len({type(block) for block in blocks}) == 1 and not _is_trivial(blocks[0]):
            found.append(Found(path, blocks))
            inside |= {id(child) for block in module for child in block.modules()}
    return found


def _is_trivial(module: nn.Module) -> bool:
    """A layer such as Linear or LayerNorm: something without parts of its own."""
    return not any(True for _ in module.children())


def _stages(modules: Sequence[nn.Module]) -> tuple[str, tuple[nn.Module, ...]] | None:
    """Stages have lists of blocks, under the same name and all of one class: that name, and all the blocks in order."""
    names = [
        {name for name, child in module.named_children() if isinstance(child, nn.ModuleList) and len(child)}
        for module in modules
    ]
    for name in sorted(set.intersection(*names)) if names else ():
        blocks = tuple(block for module in modules for block in module.get_submodule(name).children())
        if len({type(block) for block in blocks}) == 1 and not _is_trivial(blocks[0]):
            return name, blocks
    return None


def _refuse_own_dropping(model: nn.Module) -> None:
    """A model that skips blocks or residual branches at random would do so in addition to the gates."""
    config: Any = getattr(model, "config", None)
    values = {} if config is None else config.to_dict() if hasattr(config, "to_dict") else vars(config)
    drops = [f"config.{name} {value:g}" for name, value in _flat(values) if OWN_DROPPING.search(name) and value > 0]
    for name, module in model.named_modules():
        rates = {"layerdrop": getattr(module, "layerdrop", 0.0)}
        if OWN_DROPPING.search(type(module).__name__):
            rates |= {key: getattr(module, key, 0.0) for key in ("drop_prob", "p")}
        drops += [
            f"{name or type(module).__name__}.{key} {rate:g}"
            for key, rate in rates.items()
            if isinstance(rate, int | float) and rate > 0
        ]
    if drops:
        others = f" and {len(drops) - 3} more" if len(drops) > 3 else ""
        raise ValueError(
            f"{type(model).__name__} drops layers itself: {', '.join(drops[:3])}{others}; allowed: 0, or "
            "allow_own_dropping=True"
        )


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a configuration and of those inside it."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", number) for key, number in _flat(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
