"""A bucket for each test of the connector of Google Cloud Storage."""

from __future__ import annotations

import pytest

from resources.gcs.resource import GcsConnection
from tests.kit.gcs import GcsBucket, GcsServer


@pytest.fixture
def bucket(gcs_server: GcsServer) -> GcsBucket:
    return gcs_server.new_bucket()


@pytest.fixture
def connection(bucket: GcsBucket) -> GcsConnection:
    return GcsConnection(bucket=bucket.bucket, endpoint=bucket.endpoint, anonymous=True)
