"""Run functions here: bundles, environments, workers."""
