# SPDX-License-Identifier: Apache-2.0
"""What sandboxes can be made of."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.models import ImageInfo, ImageKind, ImageList, Pagination
from atoll_server.api.call import Call
from atoll_server.api.reply import Reply
from atoll_server.api.routing import Operation
from atoll_server.engine.images import Image
from atoll_server.engine.keys import Scope


async def list_images(call: Call) -> Reply:
    return call.answer(render_images(call.engine.images()))


def render_images(images: Sequence[Image]) -> ImageList:
    count = len(images)
    pagination = Pagination(total=count, limit=count, offset=0, has_more=False)
    return ImageList([_render_image(image) for image in images], pagination)


def _render_image(image: Image) -> ImageInfo:
    """Without the directory: paths of the host are no client's concern."""
    kind = ImageKind.HOST if image.directory is None else ImageKind.DIRECTORY
    if image.alias_of is not None:
        kind = ImageKind.ALIAS
    return ImageInfo(name=image.name, kind=kind, alias_of=image.alias_of)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/images",
        name="listImages",
        summary="What sandboxes of this server can be made of",
        handler=list_images,
        answer=ImageList,
        scope=Scope.READ,
    ),
)
