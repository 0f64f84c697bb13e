"""A positioned mapping and a spec to the values of a dataclass, every fault with its place; constructs nothing itself."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dsl.codes import Code
from dsl.contracts.secret import Secret
from dsl.contracts.spec import Option, OptionError, Spec, spec_of
from dsl.diagnostics import Diagnostics, Span, did_you_mean
from dsl.document import Map, Node, Scalar, Sequence, leaves_of, plain
from dsl.interpolate import Reference
from dsl.scalars import FAULTY, READERS, wanted
from dsl.spans import OptionPath, Spans


@dataclass
class OptionReader:
    """Reads the options of one node, and remembers where each one stands.

    Attributes:
        found: Told of every fault.
        owner: Who wants these options, for messages (`postgres source`).
        node: Place of the node, for options that are missing.
    """

    found: Diagnostics
    owner: str
    node: Span
    places: dict[OptionPath, Span] = field(default_factory=dict)
    texts: dict[OptionPath, Span] = field(default_factory=dict)

    def spans(self) -> Spans:
        """Returns where everything stands that was read so far."""
        return Spans(self.node, dict(self.places), dict(self.texts))

    def unknown_keys(self, node: Map | None, known: typing.Iterable[str], path: OptionPath = ()) -> None:
        """Notes every key that nobody knows."""
        names = list(known)
        for each in node.entries if node is not None else ():
            if each.key not in names:
                inside = f" in {'.'.join(map(str, path))}" if path else ""
                self.found.add(
                    each.span,
                    Code.UNKNOWN_KEY,
                    f"unknown key {each.key!r}{inside} of {self.owner}",
                    did_you_mean(each.key, names),
                )

    def values(self, node: Map | None, spec: Spec, path: OptionPath = ()) -> dict[str, Any] | None:
        """Reads every option of a spec.

        Returns:
            What to construct the spec's class from, or None if any of it is faulty.
        """
        values: dict[str, Any] = {}
        for option in spec.options:
            entry = None if node is None else node.entry(option.name)
            if entry is None:
                if option.required:
                    self._missing(option, node, path)
                    values[option.name] = FAULTY
                continue
            values[option.name] = self._option(option, entry.value, entry.span, (*path, option.name))
        return None if any(each is FAULTY for each in values.values()) else values

    def options(self, node: Map | None, cls: type) -> Any:
        """Reads all options of a node and constructs their class; FAULTY if it cannot be."""
        self.unknown_keys(node, (each.name for each in spec_of(cls).options))
        values = self.values(node, spec_of(cls))
        return FAULTY if values is None else self.construct(cls, values)

    def block(self, node: Node, cls: type, path: OptionPath = (), code: Code = Code.OPTIONS) -> Any:
        """Reads a nested block of options and constructs it; FAULTY if it cannot be."""
        if not isinstance(node, Map):
            return self._wrong(node, "a mapping")
        spec = spec_of(cls)
        self.unknown_keys(node, (each.name for each in spec.options), path)
        values = self.values(node, spec, path)
        return FAULTY if values is None else self.construct(cls, values, path, node.span, code)

    def construct(
        self,
        cls: type,
        values: dict[str, Any],
        path: OptionPath = (),
        span: Span | None = None,
        code: Code = Code.OPTIONS,
    ) -> Any:
        """Constructs a spec's class; what it refuses is noted at the option it names."""
        try:
            return cls(**values)
        except OptionError as error:
            place = self.places.get((*path, *_parts(error.name)), span or self.node)
            self.found.add(place, code, error.message, error.hint)
            return FAULTY

    def value(self, kind: Any, node: Node, path: OptionPath = (), unit: str = "") -> Any:
        """Reads one value of a type; FAULTY if it is something else, which is noted unless it was already."""
        self.places[path] = node.span
        if isinstance(node, Reference) and node.broken:
            return FAULTY
        if isinstance(node, Scalar) and node.first is not None:
            self.texts[path] = node.first
        origin = typing.get_origin(kind)
        if origin is tuple:
            return self._tuple(typing.get_args(kind)[0], node, path)
        if origin is dict:
            return self._dict(typing.get_args(kind)[1], node, path)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind is not Secret:
            return self.block(node, kind, path)
        if kind in READERS or _is_enum(kind):
            return self._leaf(kind, node, path, unit)
        return self._anything(kind, node, path)

    def _leaf(self, kind: Any, node: Node, path: OptionPath, unit: str) -> Any:
        if not isinstance(node, Scalar):
            return self._wrong(node, wanted(kind, unit))
        if kind is not Secret and refuse_secret(node, _dotted(path), self.found):
            return FAULTY
        if kind not in READERS:
            return self._enum(kind, node)
        read = READERS[kind](node, unit)
        return self._wrong(node, wanted(kind, unit)) if read is FAULTY else read

    def _option(self, option: Option, node: Node, key: Span, path: OptionPath) -> Any:
        self.places[path] = node.span
        if isinstance(node, Scalar) and node.value is None and option.type is not Any:
            if option.nullable:
                return None
            self.found.add(
                key, Code.EMPTY_VALUE, f"{_dotted(path)!r} has no value", "give it one, or leave the key out"
            )
            return FAULTY
        return self.value(option.type, node, path, option.unit)

    def _missing(self, option: Option, node: Map | None, path: OptionPath) -> None:
        example = f"such as {option.name}: {option.example}" if option.example is not None else option.doc
        place = self.node if node is None else node.span
        inside = f"{'.'.join(map(str, path))} of " if path else ""
        self.found.add(place, Code.MISSING_KEY, f"{option.name!r} is missing in {inside}{self.owner}", example)

    def _tuple(self, kind: Any, node: Node, path: OptionPath) -> Any:
        items = node.items if isinstance(node, Sequence) else (node,)
        if isinstance(node, Scalar) and kind not in READERS and not _is_enum(kind):
            return self._wrong(node, "a list")
        single = not isinstance(node, Sequence)
        read = tuple(
            self.value(kind, each, path if single and isinstance(each, Scalar) else (*path, index))
            for index, each in enumerate(items)
        )
        return FAULTY if any(each is FAULTY for each in read) else read

    def _dict(self, kind: Any, node: Node, path: OptionPath) -> Any:
        if not isinstance(node, Map):
            return self._wrong(node, "a mapping")
        read = {each.key: self.value(kind, each.value, (*path, each.key)) for each in node.entries}
        return FAULTY if any(each is FAULTY for each in read.values()) else read

    def _anything(self, kind: Any, node: Node, path: OptionPath) -> Any:
        """Reads a value of a union of types: the first member that fits; of `Json`, whatever it is."""
        for member in _members(kind):
            trial = OptionReader(Diagnostics(), self.owner, self.node)
            read = trial.value(member, node, path)
            if not trial.found.found:
                self.places.update(trial.places)
                self.texts.update(trial.texts)
                return read
        if _members(kind):
            return self._wrong(node, " or ".join(wanted(each) for each in _members(kind)))
        leaves = [each for each in leaves_of(node) if isinstance(each, Reference)]
        refused = [refuse_secret(each, _dotted(path), self.found) for each in leaves]
        return FAULTY if any(refused) or any(each.broken for each in leaves) else plain(node)

    def _enum(self, kind: type[StrEnum], node: Scalar) -> Any:
        words = [each.value for each in kind]
        if node.value in words:
            return kind(str(node.value))
        self.found.add(node.span, Code.BAD_VALUE, f"{node.text!r} is not allowed here", did_you_mean(node.text, words))
        return FAULTY

    def _wrong(self, node: Node, wanted: str) -> Any:
        self.found.add(node.span, Code.WRONG_TYPE, f"{_called(node)} stands where {wanted} is wanted")
        return FAULTY


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def refuse_secret(node: Scalar, where: str, found: Diagnostics) -> bool:
    """Notes a `${secret:…}` in a place that is shown; tells whether there is one."""
    if not (isinstance(node, Reference) and node.names_secret):
        return False
    hint = "secrets belong in fields that are secret, such as password"
    found.add(node.span, Code.SECRET_PLACE, f"a secret may not stand in {where!r}, which is shown", hint)
    return True


def _members(kind: Any) -> tuple[Any, ...]:
    members = typing.get_args(kind) if typing.get_origin(kind) is not None else ()
    return tuple(each for each in members if each is not type(None)) if "Json" not in str(kind) else ()


def _called(node: Node) -> str:
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "nothing" if node.value is None else f"{node.text!r}"


def _parts(name: str) -> OptionPath:
    return tuple(int(each) if each.isdecimal() else each for each in name.split("."))


def _dotted(path: OptionPath) -> str:
    return ".".join(map(str, path))
