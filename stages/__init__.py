"""How a task is asked and kept (``tasks``); judging by asking and by weighing; Arena ratings."""
