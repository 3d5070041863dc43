"""OpenVINO, imported so that it reports to nobody: every other file takes it from here."""

from __future__ import annotations

from hierdraft.privacy import unreported

with unreported():
    import openvino
    from openvino import opset13 as ops
    from openvino._offline_transformations import (
        apply_make_stateful_transformation,
        paged_attention_transformation,
    )

__all__ = ["apply_make_stateful_transformation", "openvino", "ops", "paged_attention_transformation"]
