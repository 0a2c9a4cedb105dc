"""What every layer above may use: errors, options as data, the engine, metrics, trackers and pages."""
