"""The CPU as a device: kernels.py (what runs a layer), masks.py (on which weights), clock.py (how it is timed), host.py
(the machine), measure.py (the loop)."""
