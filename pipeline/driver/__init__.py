"""A run from the driver's side: plan, forecast, coordinator, workers, trust, stop, report."""
