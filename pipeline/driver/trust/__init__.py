"""What a few right answers make of an output: found, judged (``pipeline.trust``), written."""
