"""The commands of `python -m course_lib`. They read options, call the library, and print."""
