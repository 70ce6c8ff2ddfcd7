"""The pieces of docs/validation.md: what every model is compared with; `validate.py` makes the page."""
