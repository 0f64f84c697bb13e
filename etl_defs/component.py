"""A thin Dagster component for a folder of workflows, so that `dg` knows them; the language and its schema stay Headrace's own.

type: etl_defs.component.Workflows
attributes:
  path: ../workflows
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
from dagster import Component, ComponentLoadContext, Definitions

from etl_defs.library import Library
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import SettingError, read_settings


class WorkflowsModel(pydantic.BaseModel):
    """What `defs.yaml` may say of a folder of workflows."""

    model_config = pydantic.ConfigDict(extra="forbid")

    path: str = pydantic.Field(description="Folder of workflow files, or one of them, relative to this file.")


class Workflows(Component):
    """All workflows of a folder, one job each, with their assets, checks, schedules and triggers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def get_model_cls(cls) -> type[pydantic.BaseModel]:
        """Returns the model of the component's attributes."""
        return WorkflowsModel

    @classmethod
    def load(cls, attributes: Any, context: ComponentLoadContext) -> Workflows:
        """Returns the component that the attributes describe.

        Raises:
            SettingError: There is no such folder.
        """
        if isinstance(attributes, Mapping):
            attributes = WorkflowsModel(**attributes)
        path = (context.path / attributes.path).resolve()
        if not path.exists():
            raise SettingError(f"{context.path}: `path: {attributes.path}` leads to {path}, which does not exist")
        return cls(path)

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """Returns the definitions of all workflows of the folder; broken ones stand as jobs that fail."""
        del context
        settings = dataclasses.replace(read_settings(), workflows=self.path)
        return WorkflowRepository(Library(settings)).definitions()
