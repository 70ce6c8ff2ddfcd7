"""Raw rows of other programs, logs and publications beside the model's."""
