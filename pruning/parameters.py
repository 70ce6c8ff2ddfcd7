"""Settings of methods, quantizers and allocators: `--set key=value` into a frozen dataclass, checked."""

import dataclasses
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workloads.errors import UserError


def parse_parameters(owner: str, kind: type, values: dict[str, Any]) -> Any:
    """kind(**values). Raises UserError for an unknown key or a value of the wrong type or outside its range."""
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise UserError(f"{owner} has no parameter {key!r}; it has: {', '.join(known) or 'none'}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{owner}: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from None
