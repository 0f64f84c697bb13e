"""A bucket for each test of the S3 connector."""

from __future__ import annotations

import pytest

from dsl.contracts.secret import Secret
from resources.s3.resource import S3Connection
from tests.kit.s3 import Bucket, S3Server


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    return s3_server.new_bucket()


@pytest.fixture
def connection(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> S3Connection:
    monkeypatch.setenv("TEST_S3_KEY", bucket.access_key)
    monkeypatch.setenv("TEST_S3_SECRET", bucket.secret_key)
    return connect_to(bucket)


def connect_to(bucket: Bucket) -> S3Connection:
    return S3Connection(
        bucket=bucket.bucket,
        endpoint=bucket.endpoint,
        region=bucket.region,
        access_key_id=Secret("${TEST_S3_KEY}"),
        secret_access_key=Secret("${TEST_S3_SECRET}"),
    )
