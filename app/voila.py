"""The settings of Voilà as `make app` starts it: how many visitors it serves, and what they can reach."""

import os
from datetime import UTC, datetime
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Integer, Set

from course_lib.language import say


class Places(AsyncMappingKernelManager):
    """A kernel for each visitor as long as there are places. The others get a sentence.

    Voilà adds the pool to this class: one kernel that is ready before its visitor comes. It has a place too.
    """

    places = Integer(8, config=True, help="Kernels at a time; each needs 0.6 GB of memory.")
    gone = Integer(120, config=True, help="Seconds until a visitor who has closed the page loses the place.")
    silent = Integer(900, config=True, help="Seconds until a visitor who does nothing loses the place.")
    given = Set(help="The kernels that visitors have.")
    closing = False

    async def start_kernel(self, **options: Any) -> str:
        """Start a kernel. Raises HTTPError if there is no place for it."""
        if self.closing or len({*self._kernels, *self._pending_kernels}) >= self.places:
            raise HTTPError(503, reason=say("All places are taken. Please reload this page in a minute or two."))
        return await super().start_kernel(**options)

    async def shutdown_kernel(self, kernel_id: str, *arguments: Any, **options: Any) -> None:
        """Shut down a kernel, and give its place to the pool, which could not be filled while there was none."""
        await super().shutdown_kernel(kernel_id, *arguments, **options)
        for name, pool in self._pools.items():
            pool[:] = [kernel for kernel in pool if not kernel.done() or not kernel.exception()]
            if not self.closing:
                self.fill_if_needed(0, name)

    async def shutdown_all(self, *arguments: Any, **options: Any) -> None:
        """Shut down all kernels, and start no more."""
        self.closing = True
        await super().shutdown_all(*arguments, **options)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Free the place of a visitor who has left, or who does nothing for long."""
        if kernel_id not in self.given:  # until now it may have waited in the pool, for hours
            self.given.add(kernel_id)
            self._kernels[kernel_id].last_activity = datetime.now(UTC)
        self.cull_idle_timeout = self.silent if self._kernel_connections.get(kernel_id) else self.gone
        await super().cull_kernel_if_idle(kernel_id)


def titled(page: Any, resources: Any) -> tuple[Any, Any]:
    """The notebook, with the title that the browser shows on its tab."""
    page.metadata.title = say("Type a title, get a poem")
    return page, resources


os.environ.setdefault("OMP_NUM_THREADS", "1")  # for each kernel: with more threads, they would wait for each other
c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.VoilaConfiguration.multi_kernel_manager_class = Places
c.VoilaExporter.preprocessors = [titled]
c.VoilaConfiguration.preheat_kernel = True
c.VoilaConfiguration.allow_template_override = c.VoilaConfiguration.allow_theme_override = "NO"
c.VoilaConfiguration.file_allowlist = []  # the page has no files beside it
c.MappingKernelManager.cull_idle_timeout = 120  # culling is on; `Places` sets the seconds for each kernel
c.MappingKernelManager.cull_connected = True
c.MappingKernelManager.cull_interval = 15
