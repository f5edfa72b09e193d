"""The tensors of a learner, declared once each: adding classes, saving and loading follow from it.

What a class owns is a row of some tensors, a count in others, and samples that name it. An
algorithm declares which of its attributes these are. The declaration is stored in the manifest, so
that `model/class_table.py` changes classes of a saved model without torch and without knowing the
algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final

import torch
from torch import Tensor, nn

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.networks import initial_embeddings
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.core.rounding import from_levels, to_levels
from cfl_edge.defaults import NEVER

Groups = dict[str, dict[str, Tensor]]  # file of the model folder: "state", "replay"; name: tensor
New = Literal["zero", "normal", "never"]
Merge = Literal["mean", "sum", "weighted"]


@dataclass(frozen=True)
class Rows:
    """What becomes of a tensor whose axis 0 is the class.

    Args:
        new: The row of a new class: zeros, drawn from N(0, 1), or zeros with a last value (a bias)
            that rules the class out.
        merge: The row of a merged class: the mean over the classes that were learned, the sum, or
            the mean weighted by `counts`.
        counts: Name of the tensor of counts.
        scatter: Name of the tensor (C, C) that gets what lies between the merged means.
    """

    new: New = "zero"
    merge: Merge = "mean"
    counts: str | None = None
    scatter: str | None = None


class Samples(Protocol):
    """Samples of classes: `labels` (N,) among tensors whose axis 0 is the sample."""

    def samples(self) -> dict[str, Tensor]:
        """Return the samples, to be stored; `put_samples` takes them back."""

    def put_samples(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the samples."""


@dataclass(frozen=True)
class _Field:
    """An attribute, or an item of a list, that is stored under a name."""

    name: str
    owner: Any
    key: str | int
    rows: Rows | None = None
    like: Tensor | None = None  # of its shape: a moment exists only after the first step
    moment: str | None = None  # stored as levels, the second by its root
    free: bool = False  # any length
    computed: bool = False  # stored for others, follows from the rest
    derived: bool = False  # taken out by a change of classes

    def get(self) -> Any:
        return self.owner[self.key] if isinstance(self.key, int) else getattr(self.owner, self.key)

    def put(self, value: Any) -> None:
        if isinstance(self.key, int):
            self.owner[self.key] = value
        else:
            setattr(self.owner, self.key, value)

    def tensor(self) -> Tensor | None:
        value = self.get()
        if value is None or isinstance(value, Tensor):
            return value if value is None else value.detach()
        dtype = torch.float64 if isinstance(value, float) else torch.long
        return torch.tensor(value, dtype=dtype)


@final
class State:
    """Declare, grow, store and load the tensors of an algorithm.

    Args:
        device: Where they live.
        generator: Source of randomness, for rows that are drawn.

    Example:
        >>> class Means:
        ...     counts, means = torch.zeros(0), torch.zeros(0, 3)
        >>> state, means = State("cpu", torch.Generator()), Means()
        >>> state.rows("counts", means, "counts", Rows(merge="sum"))
        >>> state.rows("means", means, "means", Rows(merge="weighted", counts="counts"))
        >>> state.add_class()
        >>> means.means
        tensor([[0., 0., 0.]])
        >>> sorted(state.groups()["state"])
        ['counts', 'means']
    """

    def __init__(self, device: torch.device | str, generator: torch.Generator) -> None:
        self.device, self.generator = torch.device(device), generator
        self._fields: list[_Field] = []
        self._samples: list[tuple[str, str, Samples]] = []  # group, prefix of the names, owner

    def rows(
        self, name: str, owner: object, key: str | int, rule: Rows, *, computed: bool = False
    ) -> None:
        """Declare a tensor with a class axis, or a list with a number for each class.

        Args:
            name: In the group `state`.
            owner: Whose attribute or item it is.
            key: Attribute or index.
            rule: What becomes of it when classes change.
            computed: It follows from the rest: stored for others, never loaded.
        """
        self._fields.append(_Field(name, owner, key, rule, computed=computed))

    def value(self, name: str, owner: object, key: str, *, free: bool = False) -> None:
        """Declare a tensor or number without a class axis; `free` if its length may change."""
        self._fields.append(_Field(name, owner, key, free=free))

    def statistics(self, name: str, source: ClassStatistics) -> None:
        """Declare counts, means and scatter of a source of features, and its first rows."""
        counts, scatter = f"{name}.counts", f"{name}.scatter"
        self.rows(counts, source, "counts", Rows(merge="sum"))
        self.rows(
            f"{name}.means", source, "means", Rows(merge="weighted", counts=counts, scatter=scatter)
        )
        self.value(scatter, source, "scatter")
        self.derived(f"{name}.first_rows", source, "rows")

    def optimizer(self, name: str, optimizer: Optimizer) -> None:
        """Declare the moments of an optimizer; those of rows are rows."""
        rows = {id(field.get()) for field in self._fields if field.rows is not None}
        for p, (parameter, moments) in enumerate(
            zip(optimizer.parameters, optimizer.moments, strict=True)
        ):
            rule = Rows() if id(parameter) in rows else None
            for key in ("first", "second"):
                field = f"{name}.{p}.{key}"
                self._fields.append(_Field(field, moments, key, rule, parameter, key))
            steps = _Field(f"{name}.{p}.steps", moments, "steps", like=torch.zeros(()))
            self._fields.append(steps)

    def samples(self, prefix: str, owner: Samples, *, group: str = "state") -> None:
        """Declare samples, stored as `PREFIXlabels` and others of this prefix."""
        self._samples.append((group, prefix, owner))

    def derived(self, name: str, owner: object, key: str) -> None:
        """Declare a tensor that a change of classes takes out: it is None when that is loaded."""
        like = getattr(owner, key)
        self._fields.append(_Field(name, owner, key, like=like, free=True, derived=True))

    def add_class(self) -> None:
        """Append a row to every tensor with a class axis; to none if that is interrupted."""
        rows = [(f, f.rows.new, f.tensor()) for f in self._fields if f.rows and not f.computed]
        before = [(field, new, values) for field, new, values in rows if values is not None]
        try:
            for field, new, values in before:
                row = values.new_zeros(1, *values.shape[1:])
                if new == "normal":
                    row = initial_embeddings(1, values.shape[1], self.generator).to(row)
                elif new == "never":
                    row[0, -1] = NEVER
                self._write(field, torch.cat([values, row]))
        except BaseException:  # Ctrl-C as well: what catches it may save
            for field, _, values in before:
                self._write(field, values)
            raise

    def groups(self) -> Groups:
        """Return all tensors by name, to be stored."""
        groups: Groups = {"state": {}, "replay": {}}
        for field in self._fields:
            value = field.tensor()
            if value is not None:
                if field.moment is not None:
                    value = to_levels(value.sqrt() if field.moment == "second" else value)
                groups["state"][field.name] = value
        for group, prefix, owner in self._samples:
            groups[group] |= {f"{prefix}{key}": value for key, value in owner.samples().items()}
        return groups

    def planned_bytes(self) -> int:
        """Return the bytes of what has no samples, with the moments that steps will bring."""
        size_bytes = 0
        for field in self._fields:
            value = field.tensor()
            value = field.like if value is None else value
            if value is not None:
                size_bytes += value.numel() if field.moment else value.nbytes
        return size_bytes

    def declaration(self, stored: Groups) -> dict[str, Any]:
        """Return what `model/class_table.py` must know of `groups()`, JSON values."""
        rows = {
            field.name: {key: value for key, value in vars(field.rows).items() if value is not None}
            for field in self._fields
            if field.rows is not None and field.name in stored["state"]
        }
        samples = [
            {"group": group, "labels": f"{prefix}labels", "prefix": prefix}
            for group, prefix, _ in self._samples
        ]
        derived = [f.name for f in self._fields if f.derived and f.name in stored["state"]]
        return {"rows": rows, "samples": samples, "derived": derived}

    def load(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back what `groups` returned.

        Args:
            groups: Maybe with classes changed since.
            classes: Z.

        Raises:
            KeyError, ValueError, RuntimeError: The tensors do not fit.
        """
        for field in self._fields:
            if field.computed:
                continue
            if field.like is not None and field.name not in groups["state"]:
                field.put(None)  # before the first step
                continue
            value = groups["state"][field.name]
            current = field.like if field.like is not None else field.tensor()
            assert current is not None
            expected = self._shape(field, current, classes)
            if expected is not None and tuple(value.shape) != expected:
                raise ValueError(
                    f"{field.name} has shape {tuple(value.shape)}, expected {expected}"
                )
            if field.moment is not None and value.dtype == torch.int8:
                value = from_levels(value)
                value = value.square() if field.moment == "second" else value
            if value.is_floating_point() != current.is_floating_point():
                raise ValueError(f"{field.name} holds {value.dtype}, expected {current.dtype}")
            self._write(field, value.to(current.dtype))
        for group, prefix, owner in self._samples:
            found = groups[group].items()
            owner.put_samples({k.removeprefix(prefix): v for k, v in found if k.startswith(prefix)})

    def _shape(self, field: _Field, current: Tensor, classes: int) -> tuple[int, ...] | None:
        if field.free:
            return None
        return tuple(current.shape) if field.rows is None else (classes, *current.shape[1:])

    @torch.no_grad()
    def _write(self, field: _Field, value: Tensor) -> None:
        current = field.get()
        if isinstance(current, nn.Parameter):
            gradient, current.grad = current.grad, None
            current.data = value.to(self.device, copy=True)
            if gradient is not None and len(gradient) <= len(value):  # a step is under way
                current.grad = torch.zeros_like(current)
                current.grad[: len(gradient)] = gradient
        elif isinstance(current, int | float):
            field.put(type(current)(value.item()))
        elif isinstance(current, list):
            field.put(value.tolist())
        else:
            copy = field.like is not None  # moments change in place
            field.put(value.to(self.device, copy=copy))
