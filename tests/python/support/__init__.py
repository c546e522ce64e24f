"""What the tests share: programs, mounts, safetensors by hand, models."""
