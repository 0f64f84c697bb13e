"""A compiled workflow as Dagster definitions: a graph of stages behind one asset for each target; runs nothing and reads no file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dagster import (
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    CodeReferencesMetadataValue,
    ConfigMapping,
    DependencyDefinition,
    GraphDefinition,
    InputMapping,
    IOManagerDefinition,
    JobDefinition,
    LocalFileCodeReference,
    MetadataValue,
    NodeInvocation,
    OutputMapping,
    ResourceDefinition,
)

from dsl.compile import CompiledWorkflow
from dsl.contracts.connectors import Connection
from dsl.contracts.spec import spec_of
from dsl.plan.explain import explain
from dsl.plan.logical import Load, Read
from dsl.plan.physical import ExchangeWrite, Scan, Stage, Write, leaves_of
from etl_defs import report as shown
from etl_defs.alone import job_of
from etl_defs.checks import check_specs
from etl_defs.describe import stage_description, stage_text
from etl_defs.library import Library
from etl_defs.naming import SOURCES, TAG_WORKFLOW, asset_key, asset_tags, dagster_name, op_name, owners_of
from etl_defs.ops import DONE, TARGET, StageOp, session_resource
from etl_defs.picture import as_markdown, picture
from etl_defs.storage import NoPickles
from resources.base import ConnectionResource, resource_of

Claim = Callable[[tuple[str, ...]], AssetKey]
IO_MANAGER = "io_manager"
NOTHING_TO_CONFIGURE = ConfigMapping(config_fn=lambda _: {}, config_schema={})


@dataclass(frozen=True)
class Translation:
    """One workflow in Dagster's terms.

    Attributes:
        job: Runs it.
        assets: Its targets.
        bound: The same, bound to its connections.
        sources: What it reads, as external assets.
        resources: Its connections as its runs get them, by key.
        connections: Its connections as the UI shows them, by key.
        lineage: Each target with the source assets that reach it.
    """

    job: JobDefinition
    assets: AssetsDefinition
    bound: AssetsDefinition
    sources: tuple[AssetSpec, ...]
    resources: Mapping[str, ResourceDefinition]
    connections: Mapping[str, ConnectionResource]
    lineage: Mapping[AssetKey, frozenset[AssetKey]]


@dataclass
class _Parts:
    """The graph of a workflow while it is put together."""

    ops: list[StageOp] = field(default_factory=list)
    dependencies: dict[NodeInvocation, dict[str, DependencyDefinition]] = field(default_factory=dict)
    inputs: list[InputMapping] = field(default_factory=list)
    outputs: list[OutputMapping] = field(default_factory=list)


class Bindings:
    """The resources that jobs run with: one object for each connection, however many workflows share it.

    They take no run configuration: what a connection is stands in its document alone, and no run can carry a secret.

    Attributes:
        shared: What every workflow needs.
    """

    def __init__(self) -> None:
        self.shared = {
            IO_MANAGER: IOManagerDefinition(
                lambda _: NoPickles(), config_schema={}, description="Refuses to store Python objects."
            )
        }
        self._bound: dict[str, ResourceDefinition] = {}
        self._visible: dict[Connection, ConnectionResource] = {}

    def __call__(self, key: str, connection: Connection) -> ResourceDefinition:
        """Returns the resource of a connection."""
        if key not in self._bound:
            summary = spec_of(type(connection)).summary
            self._bound[key] = ResourceDefinition(lambda _: connection, config_schema={}, description=summary)
        return self._bound[key]

    def visible(self, connection: Connection) -> ConnectionResource:
        """Returns a connection as the UI shows it; equal ones, of which a location may have thousands, are made once."""
        try:
            if connection not in self._visible:
                self._visible[connection] = resource_of(connection)
            return self._visible[connection]
        except TypeError:  # an option holds a mapping, which has no hash
            return resource_of(connection)


class Translator:
    """Translates the workflow of one compiled document.

    Args:
        library: Where the workflow is found again when it runs.
        compiled: The workflow.
        path: Its file, for the link in the UI.
        bind: Gives a connection its resource.
        claim: Gives a target's physical name its asset key.
        cut: Source assets that the lineage leaves out, because they would close a circle between workflows.
    """

    def __init__(
        self,
        library: Library,
        compiled: CompiledWorkflow,
        path: Path,
        *,
        bind: Bindings,
        claim: Claim = asset_key,
        cut: frozenset[AssetKey] = frozenset(),
    ) -> None:
        self._library, self._compiled, self._path, self._bind = library, compiled, path, bind
        self._name = compiled.workflow.dagster_name
        self._stages = {each.id: each for each in compiled.physical.stages}
        self._kinds = {each.name: each.kind for each in compiled.bound.nodes}
        self._keys = self._target_keys(claim)
        self._reads = {
            each.id: asset_key(each.source.physical_name) for each in compiled.logical.nodes if isinstance(each, Read)
        }
        self._cut = cut

    @cached_property
    def _sources_of_targets(self) -> dict[AssetKey, frozenset[AssetKey]]:
        left_out = {*self._keys.values(), *self._cut}
        return {key: frozenset(self._sources_of(stage)) - left_out for stage, key in self._keys.items()}

    def translate(self) -> Translation:
        """Returns the workflow's job, assets and resources."""
        connections = self._connections()
        names = {key: self._resource_key(key) for key in connections}
        resources = {names[key]: self._bind(names[key], each) for key, each in connections.items()}
        assets, sources = self._assets(names), self._external()
        visible = {names[key]: self._bind.visible(each) for key, each in connections.items()}
        needed = {**resources, **self._bind.shared}
        bound = assets.with_resources(needed)
        job = self._job(bound, sources, needed)
        return Translation(job, assets, bound, sources, resources, visible, self._sources_of_targets)

    def _target_keys(self, claim: Claim) -> dict[str, AssetKey]:
        """Returns the asset key of each stage that writes a destination; no two are equal."""
        found: dict[str, AssetKey] = {}
        for stage in self._stages.values():
            if isinstance(stage.writer, Write):
                key = claim(stage.writer.destination.physical_name)
                found[stage.id] = key if key not in found.values() else AssetKey([*key.path, stage.writer.input_node])
        return found

    def _sources_of(self, stage_id: str) -> list[AssetKey]:
        stage = self._stages[stage_id]
        own = [self._reads[leaf.node] for leaf in leaves_of(stage.root) if isinstance(leaf, Scan)]
        return list(dict.fromkeys([*own, *(key for each in stage.after for key in self._sources_of(each))]))

    def _connections(self) -> dict[str, Connection]:
        found: dict[str, Connection] = {}
        for node in self._compiled.logical.nodes:
            if isinstance(node, Read):
                found.setdefault(node.resource, node.source.connection)
            elif isinstance(node, Load):
                found.setdefault(node.resource, node.destination.connection)
        letters = self._compiled.bound.dead_letters
        if letters is not None:
            found.setdefault(letters.connection_name, letters.destination.connection)
        return found

    def _resource_key(self, connection: str) -> str:
        """Returns a key that no other workflow uses for another connection."""
        own = f"{self._name}__"
        shared = self._library.shares(self._name, connection)
        return connection if shared or connection.startswith(own) else own + dagster_name(connection)

    def _assets(self, names: Mapping[str, str]) -> AssetsDefinition:
        session = session_key(self._name)
        lineage = self._sources_of_targets
        keys = sorted({key for each in lineage.values() for key in each})
        inputs = {key: f"source_{number}" for number, key in enumerate(keys)}
        graph = self._graph(inputs, names, session)
        outputs = {f"{stage}__{TARGET}": key for stage, key in self._keys.items()}
        checks = {
            f"{stage}__{name}": spec for stage, key in self._keys.items() for name, spec in check_specs(key).items()
        }
        return AssetsDefinition(
            node_def=graph,
            keys_by_input_name={name: key for key, name in inputs.items()},
            keys_by_output_name=outputs,
            check_specs_by_output_name=checks,
            specs=[self._spec(stage, key, lineage[key]) for stage, key in self._keys.items()],
            resource_defs={session: session_resource(self._library, self._name, names)},
        )

    def _graph(self, inputs: Mapping[AssetKey, str], names: Mapping[str, str], session: str) -> GraphDefinition:
        parts = _Parts()
        for stage in self._stages.values():
            self._add(parts, stage, inputs, names, session)
        return GraphDefinition(
            name=op_name(self._name, "stages"),
            description=self._compiled.workflow.description or None,
            node_defs=[each.define() for each in parts.ops],
            dependencies=parts.dependencies,
            input_mappings=parts.inputs,
            output_mappings=parts.outputs,
            config=NOTHING_TO_CONFIGURE,
        )

    def _add(
        self, parts: _Parts, stage: Stage, inputs: Mapping[AssetKey, str], names: Mapping[str, str], session: str
    ) -> None:
        scans = [leaf for leaf in leaves_of(stage.root) if isinstance(leaf, Scan)]
        reads = {self._reads[leaf.node] for leaf in scans} & set(inputs)
        after = {f"after_{each}": DependencyDefinition(each, DONE) for each in stage.after}
        used = {leaf.resource for leaf in scans}
        if isinstance(stage.writer, Write):
            used.add(stage.writer.resource)
        key = self._keys.get(stage.id)
        op = StageOp(
            workflow=self._name,
            stage=stage,
            key=key,
            sources=self._reads,
            inputs=(*after, *(inputs[each] for each in sorted(reads))),
            session=session,
            resources=frozenset(names[each] for each in used if each in names),
            description=stage_description(stage),
            promised=stage.schema,
            kind=self._kinds.get(stage.writer.node, "") if key else "exchange",
            code_version=self._compiled.physical.fingerprint,
        )
        parts.ops.append(op)
        parts.dependencies[NodeInvocation(op.name, alias=stage.id)] = after
        parts.inputs += [
            InputMapping(graph_input_name=inputs[each], mapped_node_name=stage.id, mapped_node_input_name=inputs[each])
            for each in sorted(reads)
        ]
        if key is not None:
            parts.outputs += [
                OutputMapping(
                    graph_output_name=f"{stage.id}__{name}", mapped_node_name=stage.id, mapped_node_output_name=name
                )
                for name in (TARGET, *check_specs(key))
            ]

    def _spec(self, stage_id: str, key: AssetKey, sources: frozenset[AssetKey]) -> AssetSpec:
        workflow, stage = self._compiled.workflow, self._stages[stage_id]
        writer = stage.writer
        if isinstance(writer, ExchangeWrite):
            raise TypeError(f"stage {stage_id!r} writes an exchange, which is no asset")
        load = next(
            (each for each in self._compiled.logical.nodes if isinstance(each, Load) and each.node == writer.node), None
        )
        metadata = shown.table_metadata(writer.destination)
        metadata["guarantee"] = MetadataValue.text(shown.guarantee_of(writer.destination))
        metadata["write_mode"] = MetadataValue.text(writer.destination.write_mode.value)
        metadata["plan"] = MetadataValue.md(shown.fenced(stage_text(stage), "sql"))
        metadata["dagster/code_references"] = self._code_reference()
        if stage.schema is not None and len(stage.schema):
            metadata["dagster/column_schema"] = MetadataValue.table_schema(shown.table_schema(stage.schema))
        lineage = shown.column_lineage(load.lineage, self._reads) if load else None
        written = f"Written by workflow `{workflow.name}`, node `{writer.node}`."
        if lineage is not None:
            metadata["dagster/column_lineage"] = MetadataValue.column_lineage(lineage)
        return AssetSpec(
            key,
            deps=sorted(sources),
            description="\n\n".join(filter(None, [workflow.description, written])),
            metadata=metadata,
            group_name=self._name,
            owners=owners_of(workflow.owners),
            tags=asset_tags(workflow.tags) | {TAG_WORKFLOW: self._name},
            kinds=self._kind(writer.node),
            code_version=self._compiled.physical.fingerprint,
        )

    def _external(self) -> tuple[AssetSpec, ...]:
        own = set(self._keys.values())
        found: dict[AssetKey, AssetSpec] = {}
        for node in self._compiled.logical.nodes:
            if not isinstance(node, Read) or (key := self._reads[node.id]) in own or key in found:
                continue
            metadata: shown.Metadata = {}
            if node.schema is not None and len(node.schema):
                metadata["dagster/column_schema"] = MetadataValue.table_schema(shown.table_schema(node.schema))
            found[key] = AssetSpec(
                key,
                description=f"Read by workflow `{self._compiled.workflow.name}`, node `{node.id}`.",
                metadata=metadata,
                group_name=SOURCES,
                kinds=self._kind(node.id),
            )
        return tuple(found.values())

    def _kind(self, node: str) -> set[str]:
        kind = self._kinds.get(node)
        return {kind} if kind else set()

    def _code_reference(self) -> CodeReferencesMetadataValue:
        line = self._compiled.workflow.span.line
        reference = LocalFileCodeReference(
            file_path=str(self._path.absolute()), line_number=line, label=self._path.name
        )
        return CodeReferencesMetadataValue(code_references=[reference])

    def _job(
        self, assets: AssetsDefinition, sources: tuple[AssetSpec, ...], resources: Mapping[str, ResourceDefinition]
    ) -> JobDefinition:
        workflow = self._compiled.workflow
        plan = explain(self._compiled.logical, self._compiled.physical)
        return job_of(
            self._name,
            assets,
            sources,
            resources,
            description=workflow.description or f"Workflow `{workflow.name}`.",
            tags={**workflow.tags, TAG_WORKFLOW: self._name},
            metadata={
                "picture": MetadataValue.md(as_markdown(picture(self._compiled.logical))),
                "plan": MetadataValue.md(shown.fenced(plan)),
                "file": MetadataValue.path(str(self._path)),
                "fingerprint": MetadataValue.text(self._compiled.physical.fingerprint[:12]),
            },
            owners=owners_of(workflow.owners),
        )


def merged_source(specs: Sequence[AssetSpec]) -> AssetSpec:
    """Returns one asset for a source that several workflows read."""
    readers = "\n\n".join(dict.fromkeys(each.description or "" for each in specs))
    return specs[0].replace_attributes(description=readers)


def session_key(workflow: str) -> str:
    """Returns the key of the resource that is one run of the workflow."""
    return f"{workflow}__run"
