"""`nlb config schema`: the JSON Schema, whole; what it says is compared in tests/unit/config/test_render.py."""

from __future__ import annotations

import json

from tests.support.balancer import nlb


def test_schema() -> None:
    result = nlb("config", "schema")
    assert (result.returncode, result.stderr) == (0, "")
    schema = json.loads(result.stdout)
    assert schema["title"] == "nlb configuration"
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"node", "log", "listeners", "server_groups", "security_policies"}
