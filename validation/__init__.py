"""What every model was checked against: twins, closed forms, other programs, published and measured figures."""
