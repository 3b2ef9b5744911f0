// Command own compiles and evaluates one condition with package expression.
package main

import (
	"fmt"
	"time"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/expression"
	"sorrel/shared/record"
)

func main() {
	began := time.Now()
	var ps source.Problems
	_, root := contract.Load("order.v1.json", []byte("{}"), &ps)
	scope := expression.Scope{
		"before.creditLimit": {Type: contract.Money}, "after.creditLimit": {Type: contract.Money},
		"after.segment": {Type: contract.Enum, Values: []string{"enterprise", "midmarket", "small"}},
	}
	at := source.Node{Kind: source.Text, Text: `after.creditLimit <= before.creditLimit * 1.1 and after.segment in ["small", "midmarket"]`}
	p := expression.Predicate(at, scope, &ps)
	v, err := record.ParseNumber("1090.10")
	holds, failed := p.Holds(func(name string) record.Value {
		if name == "after.segment" {
			return record.TextValue("small")
		}
		return v
	})
	fmt.Println(time.Since(began).Nanoseconds(), root.Kind == source.Map && holds && err == nil && failed == nil)
}
