"""JSON schemas as people write them, and as they should not: every keyword, in its place and out of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Schema = dict[str, Any]
_Kind = Callable[[int], Any]

_NAMES = (
    *("name", "score", "title", "default", "enum", "properties", "type", "required", "$ref", "const", "description"),
    *("a/b", "a~b", "größe", "x y", "", "items", "tags", "0"),
)
_FORMATS = ("date-time", "date", "time", "email", "uuid", "uri", "ipv4", "regex", "password", "duration")
_PATTERNS = ("^[A-Z]{3}$", "a|b", r"^\d+$")
_VALUES: tuple[Any, ...] = ("S", "M", "", "title", 1, 2, 2.5, True, False, None, -7)


class Writer:
    """Writes one schema. With ``sayable`` it keeps to what has a meaning that every provider can at least ask for."""

    def __init__(self, random: Random, *, sayable: bool = False) -> None:
        self._random = random
        self._sayable = sayable
        self._defs: Schema = {}

    def write(self) -> Schema:
        root = self._object(0)
        if not self._sayable and self._random.random() < 0.1:
            root = self._random.choice([self._odd_root, self._reference_root])(root)
        if self._defs:
            root["$defs"] = self._defs
        return root

    def _odd_root(self, root: Schema) -> Schema:
        return {"type": "object", "anyOf": [root, self._object(1)]}

    def _reference_root(self, root: Schema) -> Schema:
        self._defs["Root"] = root
        return {"type": "object", "$ref": "#/$defs/Root"}

    def _node(self, depth: int) -> Any:
        plain: list[_Kind] = [
            self._string,
            self._number,
            self._integer,
            self._values,
            self._boolean,
            self._nullable,
        ]
        nested: list[_Kind] = [self._object, self._array, self._any_of, self._reference, self._all_of]
        odd: list[_Kind] = [
            self._map,
            self._anything,
            self._untyped,
            self._refused,
            self._recursive,
            self._tuple,
            self._nothing,
        ]
        kinds = plain if depth > 3 else [*plain, *nested]
        if not self._sayable and self._random.random() < 0.08:
            kinds = odd
        node = self._random.choice(kinds)(depth + 1)
        if isinstance(node, dict) and self._random.random() < 0.2:
            node = {**node, "description": "what it is"}
        if isinstance(node, dict) and self._random.random() < 0.1:
            node = {**node, "title": "T", "examples": [{"title": "x"}]}
        return node

    def _maybe(self, **words: Any) -> Schema:
        return {word: value for word, value in words.items() if self._random.random() < 0.3}

    def _object(self, depth: int) -> Schema:
        count = self._random.choice([1, 1, 2, 3, 4, 12])
        names = self._random.sample(_NAMES, count) if depth < 3 else ["leaf"]
        node: Schema = {"type": "object", "properties": {name: self._node(depth) for name in names}}
        node |= self._maybe(required=names[:1], additionalProperties=self._random.random() < 0.3)
        if not self._sayable:
            node |= {} if self._random.random() < 0.9 else self._maybe(
                minProperties=1,
                maxProperties=9,
                dependentRequired={names[0]: names[-1:]},
                propertyNames={"type": "string"},
                unevaluatedProperties=False,
            )  # fmt: skip
        return node

    def _array(self, depth: int) -> Schema:
        bounds = self._maybe(minItems=self._random.randint(0, 3), maxItems=self._random.randint(3, 6), uniqueItems=True)
        return {"type": "array", "items": self._node(depth), **bounds}

    def _string(self, depth: int) -> Schema:
        pick = self._random.choice
        bounds = self._maybe(minLength=self._random.randint(0, 2), maxLength=self._random.randint(2, 9))
        return {"type": "string", **bounds, **self._maybe(format=pick(_FORMATS), pattern=pick(_PATTERNS))}

    def _number(self, depth: int) -> Schema:
        return {"type": "number", **self._maybe(minimum=-0.5, maximum=9, exclusiveMinimum=-3.5, exclusiveMaximum=10)}

    def _integer(self, depth: int) -> Schema:
        return {"type": "integer", **self._maybe(minimum=0, exclusiveMaximum=12, multipleOf=2, maximum=10)}

    def _boolean(self, depth: int) -> Schema:
        return {"type": "boolean"}

    def _values(self, depth: int) -> Schema:
        values = self._random.sample(_VALUES, self._random.randint(1, 4))
        if self._random.random() < 0.3:
            return {"const": values[0]}
        return {"enum": values, **({"type": ["string", "null", "integer"]} if self._random.random() < 0.2 else {})}

    def _nullable(self, depth: int) -> Schema:
        kind = self._random.choice(["string", "integer", "boolean", "number"])
        return self._random.choice(
            [
                {"type": [kind, "null"]},
                {"type": kind, "nullable": True},
                {"anyOf": [{"type": kind}, {"type": "null"}], "default": None},
            ]
        )

    def _any_of(self, depth: int) -> Schema:
        if self._random.random() < 0.4:
            return self._discriminated(depth)
        word = "anyOf" if self._sayable else self._random.choice(["anyOf", "oneOf"])
        return {word: [self._node(depth) for _ in range(self._random.randint(1, 3))]}

    def _discriminated(self, depth: int) -> Schema:
        branches = []
        for kind in ("cat", "dog"):
            properties = {"kind": {"const": kind, "type": "string"}, "what": self._node(depth + 1)}
            branches.append({"type": "object", "properties": properties, "required": ["kind"]})
        return {"oneOf": branches, "discriminator": {"propertyName": "kind"}}

    def _reference(self, depth: int) -> Schema:
        name = f"D{len(self._defs)}"
        self._defs[name] = {}
        self._defs[name] = self._node(depth + 1)
        return {"$ref": f"#/$defs/{name}"}

    def _all_of(self, depth: int) -> Schema:
        if self._random.random() < 0.5:
            return {"allOf": [self._node(depth)]}
        base = f"B{len(self._defs)}"
        self._defs[base] = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
        return {"allOf": [{"$ref": f"#/$defs/{base}"}, {"type": "object", "properties": {"extra": self._node(depth)}}]}

    def _map(self, depth: int) -> Schema:
        others = self._random.choice([{"type": "integer"}, self._node(depth), True, {}])
        return {"type": "object", "additionalProperties": others}

    def _anything(self, depth: int) -> Any:
        return self._random.choice([{}, True, {"description": "anything"}, {"type": "object"}, {"type": "array"}])

    def _nothing(self, depth: int) -> Any:
        return self._random.choice(
            [
                False,
                {"enum": []},
                {"type": "string", "enum": [1]},
                {"allOf": [{"type": "string"}, {"type": "integer"}]},
                {"type": "integer", "minimum": 3, "maximum": 1},
                {"not": {}},
            ]
        )

    def _untyped(self, depth: int) -> Schema:
        named = {"properties": {"x": self._node(depth)}}
        return self._random.choice(
            [named, {"items": self._node(depth)}, {"minLength": 2}, {"minimum": 1}, {"minLength": 1, "minimum": 1}]
        )

    def _refused(self, depth: int) -> Schema:
        inner = self._node(depth)
        return self._random.choice(
            [
                {"type": "string", "not": {"const": "x"}},
                {"type": "object", "patternProperties": {"^x": inner}},
                {**self._object(depth), "if": {"required": ["x"]}, "then": {"required": ["y"]}},
                {**self._object(depth), "dependentSchemas": {"x": inner}},
                {"type": "array", "items": inner, "contains": inner},
                {"enum": [{"title": "x"}, ["default"]]},
                {"$ref": "#/properties/name"},
                {"$ref": "#/$defs/nowhere"},
                {"$ref": "https://example.com/schema"},
                {"type": "string", "enum": [f"SKU-{number:05}" for number in range(1500)]},
                {"type": "text"},
                {"type": "object", "properties": {"x": inner}, "required": ["y"]},
                {"type": "string", "pattern": "^(?!x)"},
                self._deep(14),
            ]
        )

    def _deep(self, levels: int) -> Schema:
        return {"type": "object", "properties": {"in": self._deep(levels - 1) if levels else {"type": "string"}}}

    def _recursive(self, depth: int) -> Schema:
        name = f"N{len(self._defs)}"
        again = {"$ref": f"#/$defs/{name}"}
        below = self._random.choice(
            [again, {"type": "array", "items": again}, {"anyOf": [again, {"type": "null"}]}, {"allOf": [again]}]
        )
        self._defs[name] = {"type": "object", "properties": {"below": below}}
        return again

    def _tuple(self, depth: int) -> Schema:
        first = self._node(depth)
        second = first if self._random.random() < 0.5 else self._node(depth)
        return {"type": "array", "prefixItems": [first, second], **self._maybe(minItems=2, maxItems=2, items=False)}
