"""Our programs and others side by side: see `bench/compare.py`."""
