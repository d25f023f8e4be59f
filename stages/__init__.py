"""The data stages (``tasks``: asked once, then kept): prompts, responses, judging by asking and likelihood; ratings."""
