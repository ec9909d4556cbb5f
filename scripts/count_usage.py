"""For maintainers: count again how often the training poems have each character, and each pair of neighbours.

    python scripts/count_usage.py

Titles are read with these counts. Call it whenever the training poems have changed: until then every program that
reads a title counts them itself, which takes a second.
"""

import numpy as np

from course_lib.files import replacing
from course_lib.poems import poem_file
from course_lib.titles import STORED, checksum, count_usage

if __name__ == "__main__":
    with replacing(poem_file("train").parent, STORED) as new:
        np.savez_compressed(new / STORED, poems=checksum(), **count_usage()._asdict())
