"""Result rows in, tables out: numbers only, nothing formatted."""
