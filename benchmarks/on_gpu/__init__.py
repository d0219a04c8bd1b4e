"""What waits for a GPU, part by part; `gpu.py` is the command line, and on a CPU it rehearses on toy sizes."""
