"""For Python and notebooks: tables as input, results that show themselves."""
