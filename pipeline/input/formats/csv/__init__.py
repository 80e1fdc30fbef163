"""CSV: exact cells, whatever quotes, encodings and line ends a file uses."""
