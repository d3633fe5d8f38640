"""The images of the runner and of its helper, built where they are missing."""

from __future__ import annotations

from pathlib import Path

from tests.image_build import build, digest_of, is_built

CONTEXT = Path(__file__).parent / "image"
FROM_ENVIRONMENT = ("GOPROXY", "GOSUMDB", "GOFLAGS")
TARGETS = ("runner", "helper")


def runner_images(base: str) -> dict[str, str]:
    """The references of the two images, by the name of their stage.

    Args:
        base: the platform's own base image, which has to be on the engine.
    """
    digest = digest_of(base, sorted(CONTEXT.rglob("*")))
    references = {target: f"dapt/gitlab-{target}:19.4.0-{digest}" for target in TARGETS}
    for target, reference in references.items():
        if not is_built(reference):
            build(reference, CONTEXT, base, variables=FROM_ENVIRONMENT, target=target)
    return references
