"""The server itself: uvicorn around the application, which ends when a signal comes.

Streams of events would hold the end up: they are told of it first.
"""

from __future__ import annotations

from types import FrameType
from typing import Any, final

import uvicorn
from typing_extensions import override

from undiffuse.web.service import Service

GRACE = 5  # seconds that open connections are given at the end


@final
class Listening(uvicorn.Server):
    """Serves an application until SIGINT or SIGTERM, which is raised again at the end.

    Args:
        service: what the application answers for.
        app: the application.
    """

    def __init__(self, service: Service, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE,
                ws="none",
                h11_max_incomplete_event_size=2**16,
            )
        )
        self.service = service

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.service.closing = True
        super().handle_exit(sig, frame)
