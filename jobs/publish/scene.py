"""A scene's result: whether it is committed, and publishing it (`jobs.publish.files`) when its shards are all done."""

from __future__ import annotations

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.layout import publication_of
from earthloom.jobs.publish.files import committed_document, publish_files
from earthloom.jobs.records.names import RESULT
from earthloom.jobs.records.result import SceneResult, SceneSummary
from earthloom.tiling.storage.store import Store


def committed(store: Store, plan: ScenePlan) -> SceneResult | None:
    """The scene's result if it is published."""
    document = committed_document(store, plan.prefix)
    return SceneResult.from_document(document, f"{plan.prefix}/{RESULT}") if document else None


def publish(store: Store, plan: ScenePlan, write_id: str) -> tuple[SceneSummary, bool]:
    """Assemble, check and commit a scene whose shards are all done, from what its markers in storage say.

    Args:
        write_id: id of the commit. Whoever has to do this again with the same one knows the commit for its own.

    Returns:
        What was committed, and whether by this `write_id`; else another driver was faster and made the same.

    Raises:
        PublishError: if a shard is missing or an output fails its check; nothing becomes visible.
    """
    document, won = publish_files(store, publication_of(plan), write_id)
    return SceneResult.from_document(document, f"{plan.prefix}/{RESULT}").summary, won
