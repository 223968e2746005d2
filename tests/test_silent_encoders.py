"""No wrong answer in silence from encoders, engines and what they keep."""

import importlib.metadata

from hybridus.encoders.engine import engine_version


class TestEngines:
    def test_versions_are_told_also_of_an_engine_that_is_absent(self, monkeypatch):
        assert engine_version("keras") == importlib.metadata.version("keras")

        def absent(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        assert engine_version("openvino") is None
