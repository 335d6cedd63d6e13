"""Printing for other programs."""

import json


def print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
