"""Fine-tuning methods behind one Protocol (base.Method); `build` applies the one that a run is configured with."""
