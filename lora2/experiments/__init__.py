"""Many runs: status, launching, cost, benchmarks. Imports common to training."""
