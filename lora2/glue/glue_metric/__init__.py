"""A local `evaluate` module; load it with `lora2.glue.metrics.load_metric`."""
