"""Keys of a destination that are somebody's personal data; looks at names only."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dsl.bound import BoundNode, BoundWorkflow
from dsl.lint.rule import Finding, Rule, upstream
from dsl.workflow import Role

_PERSONAL = re.compile(
    r"e_?mail|phone|mobile|ssn|social_security|passport|iban|(credit_?)?card_?(no|number)?$|birth|tax_?id|national_?id"
)


class PersonalKey(Rule):
    """A destination's key (`id_field`, `primary_key`, `key`) is personal data, such as an e-mail address.

    Keys end up in URLs, in logs and in the ids of dead letters, where no masking reaches them. And where a `mask` node
    does mask the field on its way, rows whose masked values are equal overwrite one another. Use a key that says
    nothing about the person: a number, or a hash made in a `mapping`.
    """

    code = "W102"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every key whose name is that of personal data."""
        for node in workflow.nodes:
            if node.role is Role.DESTINATION:
                for option, field in _keys(node):
                    if _PERSONAL.search(_words(field)):
                        yield self._finding(workflow, node, option, field)

    def _finding(self, workflow: BoundWorkflow, node: BoundNode, option: str, field: str) -> Finding:
        masks = [each.name for each in upstream(workflow, node) if each.kind == "mask"]
        said = f"{field!r} is personal data and identifies the rows of {node.name!r}"
        if masks:
            said += f"; if {masks[0]!r} masks it, rows that look the same overwrite one another"
        return self.found(node.spans.at(option), said, "use a key that says nothing about the person, such as a hash")


def _keys(node: BoundNode) -> Iterator[tuple[str, str]]:
    for option in ("id_field", "primary_key", "key"):
        value = getattr(node.options, option, None)
        for field in (value,) if isinstance(value, str) else value or ():
            yield option, str(field)


def _words(field: str) -> str:
    last = field.rsplit(".", 1)[-1]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower()
