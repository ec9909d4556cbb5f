"""The machinery of training and saving. Nothing here changes what is learned."""

from course_lib.engine.machine import Machine, choose_device, release_memory
from course_lib.engine.processes import SINGLE_PROCESS, World
