"""llama.cpp's server, on a GGUF file as it is: started and ended by us, or already running."""
