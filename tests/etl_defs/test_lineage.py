"""Circles between workflows, which would take a whole location down."""

from dagster import AssetKey

from etl_defs.lineage import circles

A, B, C = AssetKey("a"), AssetKey("b"), AssetKey("c")


def test_a_chain_is_no_circle() -> None:
    assert not circles({"one": {A}, "two": {B}}, {"one": {B}, "two": {C}})


def test_the_workflow_that_closes_a_circle_loses_that_source() -> None:
    reads = {"one": {C}, "two": {A}, "three": {B}}
    writes = {"one": {A}, "two": {B}, "three": {C}}
    assert circles(reads, writes) == {"two": frozenset({A})}


def test_a_workflow_that_reads_what_it_writes() -> None:
    assert circles({"one": {A, B}}, {"one": {A}}) == {"one": frozenset({A})}
