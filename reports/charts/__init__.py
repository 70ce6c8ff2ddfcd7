"""Tables in, Vega-Lite charts out: what a page draws itself, with values under the pointer."""
