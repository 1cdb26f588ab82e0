"""A local `evaluate` module that imports nothing of ours: `evaluate.load(FOLDER, TASK)`, without a network."""
