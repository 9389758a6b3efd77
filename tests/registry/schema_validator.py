"""Judges configs by a JSON Schema, with nothing of Switchyard's own: PyYAML reads, jsonschema judges.

Run: python3 schema_validator.py SCHEMA CONFIG...   prints one line for each config: "ok", or why not.
     python3 schema_validator.py                    only tells by its exit code whether it can run
"""
import json
import re
import sys

import jsonschema
import yaml


class CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read it: 1e-5 is a number; yes, no and dates are text."""
    yaml_implicit_resolvers = {}


for tag, pattern in [
        ("null", r"~|null|Null|NULL|"),
        ("bool", r"true|True|TRUE|false|False|FALSE"),
        ("int", r"[-+]?[0-9]+"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")]:
    CoreLoader.add_implicit_resolver("tag:yaml.org,2002:" + tag, re.compile(f"^(?:{pattern})$"), None)


def judge(validator, path):
    with open(path, encoding="utf-8") as file:
        value = yaml.load(file, CoreLoader)
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is None:
        return "ok"
    return ("/".join(map(str, error.absolute_path)) + ": " + error.message).replace("\n", " ")


def main(arguments):
    if not arguments:
        return
    with open(arguments[0], encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    for path in arguments[1:]:
        print(judge(validator, path))


main(sys.argv[1:])
