"""Names that Dagster accepts."""

import pytest
from dagster import AssetKey, AssetSpec

from etl_defs.naming import asset_key, asset_tags, dagster_name, op_name, owners_of


@pytest.mark.parametrize(
    ("text", "name"), [("a-b", "a_b"), ("2024.orders", "w_2024_orders"), ("übersicht", "übersicht")]
)
def test_names(text: str, name: str) -> None:
    assert dagster_name(text) == name.replace("ü", "w__")


def test_ops_of_two_workflows_never_share_a_name() -> None:
    assert op_name("a", "b__c") != op_name("a__b", "c")
    assert op_name("a", "b") == "a__b"


def test_owners_and_tags_that_dagster_refuses_are_put_into_its_form() -> None:
    owners = owners_of(["ann@example.com", "team:data", "data", "The Data Team"])
    assert owners == ["ann@example.com", "team:data", "team:The_Data_Team"]
    tags = asset_tags({"tier": "gold", "note": "two words", "a/b/c": "x"})
    assert tags == {"tier": "gold"}
    assert AssetSpec("x", owners=owners, tags=tags).tags["tier"] == "gold"


def test_a_key_has_no_empty_part() -> None:
    assert asset_key(("sqlite", "", "users")) == AssetKey(["sqlite", "users"])
