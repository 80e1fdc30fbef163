"""llama.cpp's server, started and ended by us, on a GGUF file as it is."""
