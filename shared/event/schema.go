package event

import (
	"encoding/json"

	"sorrel/shared/fault"
	"sorrel/shared/policy"
)

// Schema is the JSON Schema of a type of event.
type Schema struct {
	Type   string         `json:"type"`
	Schema map[string]any `json:"schema"`
}

// Business is the type of the schema that all business events have.
const Business = "sorrel.*.v1"

// Schemas are generated from the contracts: of each type of event about each entity, and of business events.
func Schemas(set *policy.Set) ([]Schema, error) {
	var out []Schema
	for _, entity := range set.Entities() {
		c := set.Contract(entity)
		var shape struct {
			Properties map[string]any `json:"properties"`
		}
		if err := json.Unmarshal(c.Schema(), &shape); err != nil {
			return nil, fault.Wrap(fault.Internal, "event.schemas", entity, err)
		}
		names := make([]any, 0, len(shape.Properties))
		for _, n := range c.Names() {
			names = append(names, n)
		}
		golden := object(shape.Properties)
		changes := map[string]any{"type": "array", "minItems": 1, "items": object(map[string]any{
			"field": map[string]any{"enum": names}, "before": map[string]any{}, "after": map[string]any{}, "from": text(), "rule": text()}, "field", "before", "after", "from", "rule")}
		for _, kind := range []string{Created, Changed} {
			out = append(out, envelope(Type(entity, kind, c.Version), map[string]any{"const": Type(entity, kind, c.Version)},
				map[string]any{"entity": map[string]any{"const": entity}, "golden": golden, "changes": changes}, "changes"))
		}
		for _, kind := range []string{Merged, Unmerged} {
			out = append(out, envelope(Type(entity, kind, c.Version), map[string]any{"const": Type(entity, kind, c.Version)},
				map[string]any{"entity": map[string]any{"const": entity}, "golden": golden, "from": text(), "into": text()}, "from", "into"))
		}
	}
	return append(out, envelope(Business, map[string]any{"type": "string", "pattern": `^sorrel(\.[a-z0-9-]+)+\.v1$`},
		map[string]any{"entity": text(), "about": text(), "detail": map[string]any{"type": "object", "additionalProperties": text()}, "golden": map[string]any{"type": "object"}})), nil
}

// envelope is the schema of a CloudEvent of a type, whose data has these members beside what all have.
func envelope(name string, kind map[string]any, data map[string]any, required ...string) Schema {
	for member, schema := range map[string]any{"record": text(), "sequence": map[string]any{"type": "integer", "minimum": 1}, "policyVersion": text(), "read": text(),
		"facts": map[string]any{"type": "object"}, "native": map[string]any{"type": "object", "additionalProperties": text()}} {
		data[member] = schema
	}
	s := object(map[string]any{
		"specversion": map[string]any{"const": "1.0"}, "id": text(), "source": text(), "type": kind, "subject": text(), "time": map[string]any{"type": "string", "format": "date-time"},
		"datacontenttype": map[string]any{"const": "application/json"}, "correlationid": text(), "sequence": text(),
		"data": object(data, append([]string{"record", "entity", "sequence"}, required...)...),
	}, "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "sequence", "data")
	s["$schema"], s["$id"], s["title"] = "https://json-schema.org/draft/2020-12/schema", "urn:sorrel:event:"+name, name
	return Schema{name, s}
}

func text() map[string]any { return map[string]any{"type": "string"} }

func object(properties map[string]any, required ...string) map[string]any {
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}
