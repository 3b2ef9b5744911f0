package netsuite

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// records are the native records of one row: itself, or what its lines say, each with the row's times. The native id of a price is
// those of its item, price level and currency: NetSuite has none for it. Of several quantities the lowest counts.
func (l layout) records(n record.Native) []record.Native {
	if l.each == "" || n.Hint() {
		return []record.Native{n}
	}
	list, _ := n.Fields[l.each].(map[string]any)
	lines, _ := list["items"].([]any)
	var out []record.Native
	seen := map[string]bool{}
	for _, a := range lines {
		line, _ := a.(map[string]any)
		level, currency := idOf(line["priceLevel"]), idOf(line["currency"])
		id := fmt.Sprintf("%s-%s-%s", n.ID, level, currency)
		if level == "0" || seen[id] { // lines come in the order of quantities
			continue
		}
		seen[id] = true
		one := n
		one.ID = id
		one.Fields = maps.Clone(line)
		one.Fields["item"] = map[string]any{"id": n.ID}
		for name, v := range n.Fields {
			if name != l.each && name != "externalId" {
				one.Fields[name] = v
			}
		}
		one.External = ""
		out = append(out, one)
	}
	return out
}

// idOf is the id of a list value, 0 where there is none, as in an account with one currency.
func idOf(v any) string {
	m, _ := v.(map[string]any)
	if id, ok := m["id"].(string); ok && digits(id) {
		return id
	}
	return "0"
}

// price reads one price. One that its item no longer has is not found.
func (c *Connector) price(ctx context.Context, ref record.Ref) (record.Native, error) {
	l, err := c.layoutOf("read", ref.Object)
	if err != nil {
		return record.Native{}, err
	}
	parts := strings.Split(ref.ID, "-")
	if len(parts) != 3 || !digits(parts[0]) || !digits(parts[1]) || !digits(parts[2]) {
		return record.Native{}, &fault.Error{Class: fault.Contract, Op: "netsuite.read", ID: ref.String(), Detail: "a price is named by the ids of its item, price level and currency, such as 12-1-1"}
	}
	n, err := c.only(ctx, "read", l, parts[0], "id = "+parts[0])
	if err != nil {
		return record.Native{}, err
	}
	for _, one := range l.records(n) {
		if one.ID == ref.ID {
			return one, nil
		}
	}
	return record.Native{}, &fault.Error{Class: fault.NotFound, Op: "netsuite.read", ID: ref.String(), Detail: "the item has no such price"}
}
