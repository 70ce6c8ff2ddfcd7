"""How a value, a unit, a setting is said for a person."""
