"""A state dict as a row: which entries are parameters, which are statistics, and what the server keeps.

Frameworks exchange state dicts, and fedsec's attacks and rules see a round as a matrix. In between stands what a state
dict holds beside parameters:

    parameters   real numbers that training moves: the row, each tensor once, however many names it has
    statistics   `running_mean` and `running_var` of normalization, and what else is a buffer: a block of its own
    counters     whole numbers, as `num_batches_tracked`
    constants    frozen parameters, masks, quantized tensors, objects: the server's own come back as they are

Without a model, entries are told apart by dtype and by name. Other floating-point buffers (a table of positions, a
mask) count as parameters then, which costs columns and changes nothing where no client moves them: what no update
moves comes back to the bit.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from fedsec.errors import DivergenceError, InputError
from fedsec.threat.rows import subtract_start
from fedsec.threat.state_entries import (
    NamedTensors,
    State,
    as_entry,
    buffer_names,
    copied,
    entry_like,
    listed,
    no_state,
)

__all__ = ["StateLayout"]

_STATISTICS = ("running_mean", "running_var")
_VARIANCE = "running_var"
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True, eq=False)
class StateLayout:
    """Where each entry of a state dict goes; made by `StateLayout.of`.

    Attributes:
        reference: the state dict that it was made of; its tensors are shared with the caller, and never written to.
        shapes: of the parameters by name, in their order in a row; of a tensor with several names, the first.
        statistics: shapes of normalization's statistics and of other buffers, in the order of their own row.
        counters: whole numbers.
        constants: what the server keeps, whatever clients send.
        ties: of a parameter's further names, the one in `shapes`.
        dtype: of a row: float64 where any parameter is, else float32, in which lower precisions are computed with.
        device: of a row: where the first parameter lies.
    """

    reference: State
    shapes: Mapping[str, torch.Size]
    statistics: Mapping[str, torch.Size]
    counters: tuple[str, ...]
    constants: tuple[str, ...]
    ties: Mapping[str, str]
    dtype: torch.dtype
    device: torch.device
    _sizes: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sizes", tuple(shape.numel() for shape in self.shapes.values()))

    @classmethod
    def of(
        cls, reference: State, *, buffers: Collection[str] | None = None, model: nn.Module | None = None
    ) -> "StateLayout":
        """The layout of state dicts like a reference, such as the model that a server sends.

        Args:
            reference: tensors or NumPy arrays by name.
            buffers: names of entries that no gradient trains, beside `running_mean` and `running_var`; whole names, or
                the last part of them.
            model: whose state dict it is, to tell buffers and frozen parameters apart for certain, and tensors that are
                tied though copies of them are not.

        Raises:
            InputError: what has no place in a row (complex or sparse numbers, tensors without data), no parameter at
                all, a name that the model or, of `buffers`, the reference does not have.
        """
        if not isinstance(reference, Mapping):
            raise InputError(f"reference: {no_state(reference)}")
        named, buffers = NamedTensors.of(model), buffer_names(reference, buffers)
        shapes, statistics, ties = dict[str, torch.Size](), dict[str, torch.Size](), dict[str, str]()
        counters, constants, first_names = list[str](), list[str](), dict[Any, str]()
        dtypes, device = set[torch.dtype](), torch.device("cpu")
        # All at once: where a mapping loads each entry when it is asked, one may lie where another lay, as if tied.
        for name, values in dict(reference.items()).items():
            tensor = as_entry("reference", name, values)
            if tensor is None or tensor.dtype == torch.bool or tensor.is_quantized:
                constants.append(name)
            elif not tensor.is_floating_point():
                counters.append(name)
            elif named.is_buffer(name) or name in buffers or name.rpartition(".")[2] in _STATISTICS:
                statistics[name] = tensor.shape
            elif named.is_frozen(name):
                constants.append(name)
            else:
                first = first_names.setdefault(named.identity(name, values, tensor), name)
                if first != name:
                    ties[name] = first
                    continue
                device = device if shapes else tensor.device
                shapes[name] = tensor.shape
                dtypes.add(tensor.dtype)
        if not sum(shape.numel() for shape in shapes.values()):
            raise InputError(f"reference: no trainable parameter among {listed(reference)}; expected a state dict")
        dtype = torch.float64 if torch.float64 in dtypes else torch.float32
        return cls(reference, shapes, statistics, tuple(counters), tuple(constants), ties, dtype, device)

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return sum(self._sizes)

    def row(self, state: State, *, who: str = "state") -> Float[Tensor, "parameters"]:
        """The parameters of one state dict as a row of its own memory.

        Args:
            state: like the reference, in any floating dtypes and on any devices.
            who: sent it, for messages.

        Raises:
            InputError: missing, unknown or misshapen entries, or others than dense real numbers.
        """
        out = torch.empty(self.size, dtype=self.dtype, device=self.device)
        self._fill(out, state, self.shapes, who)
        return out

    def statistics_row(self, state: State, *, who: str = "state") -> Float64[Tensor, "statistics"]:
        """The statistics of one state dict, one after another, on the CPU.

        Raises:
            InputError: as `row`.
        """
        out = torch.empty(sum(shape.numel() for shape in self.statistics.values()), dtype=torch.float64)
        self._fill(out, state, self.statistics, who)
        return out

    def updates(
        self, states: Sequence[State], reference: State | None = None, *, who: Sequence[str] = ()
    ) -> Float[Tensor, "clients parameters"]:
        """What each state dict differs by from what was sent; the matrix that rules and attacks take.

        Args:
            states: one a client, in any floating dtypes and on any devices; looked at one after the other.
            reference: what they began with; by default the layout's own.
            who: what messages call each of them; by default by its place.

        Returns:
            Differences in the layout's dtype. Where the reference is infinite, as a mask may be, 0 for who has the
            same; else NaN, as wherever a client's numbers are not finite.

        Raises:
            InputError: as `row`, with the place of the client.
            DivergenceError: the reference holds NaN.
        """
        start = self.start(reference)
        matrix = torch.empty(len(states), self.size, dtype=self.dtype, device=self.device)
        for place, state in enumerate(states):
            self.write_update(matrix[place], state, start, who=who[place] if who else f"client {place}")
        return matrix

    def start(self, reference: State | None = None) -> Float[Tensor, "parameters"]:
        """The row of what was sent, from which updates are taken.

        Raises:
            DivergenceError: it holds NaN.
        """
        row = self.row(self.reference if reference is None else reference, who="reference")
        if bool(row.isnan().any()):
            views = self.views(row)
            broken = [name for name, values in views.items() if bool(values.isnan().any())]
            raise DivergenceError(f"reference: {listed(broken)} hold NaN: there is no model left to update")
        return row

    def write_update(
        self, out: Float[Tensor, "parameters"], state: State, start: Float[Tensor, "parameters"], *, who: str
    ) -> None:
        """One row of `updates`, in memory of the caller's; a state dict that is refused leaves it in any condition."""
        self._fill(out, state, self.shapes, who)
        subtract_start(out, start)

    def write_statistics_update(
        self, out: Float64[Tensor, "statistics"], state: State, start: Float64[Tensor, "statistics"], *, who: str
    ) -> bool:
        """What a state dict's statistics moved by, in memory of the caller's.

        Returns:
            Whether they are finite, and no variance is negative.
        """
        self._fill(out, state, self.statistics, who)
        variances = (values for name, values in self.statistics_views(out).items() if name.endswith(_VARIANCE))
        negative = any(bool((values < 0).any()) for values in variances)
        subtract_start(out, start)
        return not negative and bool(out.isfinite().all())

    def moved(self, start: Float[Tensor, "parameters"], update: Float[Tensor, "parameters"]) -> Tensor:
        """A row after an update; what the update does not move stays to the bit.

        Raises:
            DivergenceError: numbers that were finite, and are so no longer.
        """
        row = torch.where(update == 0, start, start + update)
        broken = start.isfinite() & ~row.isfinite()
        if bool(broken.any()):
            names = [name for name, lost in self.views(broken).items() if bool(lost.any())]
            raise DivergenceError(f"{listed(names)}: the new values are NaN or beyond the range of {self.dtype}")
        return row

    def views(self, row: Float[Tensor, "parameters"]) -> dict[str, Tensor]:
        """A row's parameters by name, sharing its memory."""
        return _views(row, self.shapes)

    def statistics_views(self, row: Float64[Tensor, "statistics"]) -> dict[str, Tensor]:
        """The entries of a row of statistics by name, sharing its memory."""
        return _views(row, self.statistics)

    def problems(self, state: State) -> list[str]:
        """Names of the parameters and statistics in which a state dict is not finite, or a variance negative."""
        names = []
        for name in (*self.shapes, *self.statistics):
            values, sent = as_entry("state", name, state[name]), as_entry("reference", name, self.reference[name])
            if values is None or sent is None:
                continue
            if not bool((values.isfinite() | (values.to(sent) == sent)).all()):
                names.append(f"{name!r} holds NaN or infinity")
            elif name in self.statistics and name.endswith(_VARIANCE) and bool((values < 0).any()):
                names.append(f"{name!r} holds negative variances")
        return names

    def untied(self, state: State) -> list[tuple[str, str]]:
        """Pairs of names that the reference ties and in which a state dict differs."""
        pairs = []
        for name, first in self.ties.items():
            if name in state and state[name] is not state[first]:
                further, own = as_entry("state", name, state[name]), as_entry("state", first, state[first])
                if further is None or own is None or not torch.equal(further.to(own), own):
                    pairs.append((name, first))
        return pairs

    @torch.no_grad()
    def state_dict(
        self,
        row: Float[Tensor, "parameters"],
        statistics: Float64[Tensor, "statistics"] | None = None,
        counters: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Any]:
        """A state dict like the reference: its names in their order, kinds, dtypes, devices and ties.

        Args:
            row: parameters, not their update.
            statistics: of the statistics; by default the reference's. Variances below zero become zero.
            counters: new values of counters, by name; the reference's for all others.

        Returns:
            Tensors (or arrays, as in the reference) that own their memory; names that are tied have one tensor.

        Raises:
            InputError: a row of another length.
            DivergenceError: numbers that are finite, but not in an entry's own dtype.
        """
        moved = self.views(row)
        if statistics is not None:
            for name, values in self.statistics_views(statistics).items():
                moved[name] = values.clamp_min(0) if name.endswith(_VARIANCE) else values
        result: dict[str, Any] = OrderedDict()
        if hasattr(self.reference, "_metadata"):  # versions of modules, by which PyTorch loads older state dicts
            result._metadata = self.reference._metadata  # type: ignore[attr-defined]
        for name, like in self.reference.items():
            if name in self.ties:
                result[name] = result[self.ties[name]]
            elif name in moved:
                result[name] = entry_like(name, moved[name], like)
            elif counters is not None and name in counters:
                result[name] = entry_like(name, counters[name], like)
            else:
                result[name] = copied(like)
        return result

    def entries(self, row: Float[Tensor, "parameters"], like: State) -> dict[str, Any]:
        """The parameters of a row by all their names, as a client sends them.

        Args:
            row: parameters; numbers beyond an entry's dtype become infinite.
            like: a state dict of which kinds, dtypes and devices are taken.

        Returns:
            Tensors or arrays that own their memory; names that are tied have one.
        """
        entries = {name: entry_like(name, view, like[name], bounded=False) for name, view in self.views(row).items()}
        return entries | {name: entries[first] for name, first in self.ties.items()}

    def restricted(self, names: Collection[str]) -> "StateLayout":
        """The same without the parameters, statistics and counters that are not named, which become constants."""
        others = [name for name in (*self.shapes, *self.statistics, *self.counters) if name not in names]
        shapes = {name: shape for name, shape in self.shapes.items() if name in names}
        if not shapes:
            raise InputError(f"partial state dicts: no trainable parameter among {listed(names)}")
        for name, first in self.ties.items():
            if name in names and first not in names:
                raise InputError(
                    f"partial state dicts: have {name!r} without {first!r}, which the reference ties it with; expected "
                    "both, or the latter"
                )
        return replace(
            self,
            shapes=shapes,
            statistics={name: shape for name, shape in self.statistics.items() if name in names},
            counters=tuple(name for name in self.counters if name in names),
            constants=(*self.constants, *others),
            ties={name: first for name, first in self.ties.items() if first in names},
        )

    def _fill(self, out: Tensor, state: State, shapes: Mapping[str, torch.Size], who: str) -> None:
        """Copy the entries of a state dict into a row, each as it is checked."""
        self._check_names(state, shapes, who)
        for name, view in _views(out, shapes).items():
            tensor = as_entry(who, name, state[name])
            if tensor is None or not tensor.is_floating_point() or tensor.is_quantized:
                given = state[name] if tensor is None else tensor
                kind = getattr(given, "dtype", type(given).__name__)
                raise InputError(f"{who}: {name!r} is {kind}; expected floating-point numbers")
            if tensor.shape != view.shape:
                raise InputError(f"{who}: {name!r} has shape {tuple(tensor.shape)}; expected {tuple(view.shape)}")
            view.copy_(tensor.detach())

    def _check_names(self, state: State, names: Collection[str], who: str) -> None:
        if not isinstance(state, Mapping):
            raise InputError(f"{who}: {no_state(state)}")
        missing = [name for name in names if name not in state]
        unknown = [name for name in state if name not in self.reference]
        if not missing and not unknown:
            return
        parts = [f"lacks {listed(missing)}"] if missing else []
        parts += [f"has {listed(unknown)}, which the reference does not have"] if unknown else []
        raise InputError(f"{who}: {' and '.join(parts)}{_hint(missing, unknown, state, self.reference)}")


def _views(row: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    sizes = [shape.numel() for shape in shapes.values()]
    if row.shape != (sum(sizes),):
        raise InputError(f"state layout: expected a row of {sum(sizes)} numbers, got shape {tuple(row.shape)}")
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), torch.split(row, sizes), strict=True)}


def _hint(missing: Sequence[str], unknown: Sequence[str], state: State, reference: State) -> str:
    """What is likely to have gone wrong where names do not go together."""
    for wrapper in _WRAPPERS:
        if all(name.removeprefix(wrapper) in reference for name in unknown) and unknown:
            return f"; expected names without {wrapper!r}, those of the model that it wraps"
        if missing and all(f"{wrapper}{name}" in state for name in missing):
            return f"; expected names without {wrapper!r}, those of the model that it wraps"
        if unknown and all(f"{wrapper}{name}" in reference for name in unknown):
            return f"; the reference's names begin with {wrapper!r}: expected those of the model that it wraps"
    if "state_dict" in unknown:
        return "; expected the state dict in a checkpoint, not the checkpoint"
    return ""
