// Command expr compiles and evaluates one condition with github.com/expr-lang/expr, decimals by overloaded operators.
package main

import (
	"fmt"
	"time"

	"github.com/expr-lang/expr"
	"github.com/shopspring/decimal"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
)

func main() {
	began := time.Now()
	var ps source.Problems
	_, root := contract.Load("order.v1.json", []byte("{}"), &ps)
	amount := decimal.RequireFromString("1090.10")
	env := map[string]any{
		"before": map[string]decimal.Decimal{"creditLimit": amount}, "after": map[string]decimal.Decimal{"creditLimit": amount}, "segment": "small",
		"times":  func(a decimal.Decimal, b float64) decimal.Decimal { return a.Mul(decimal.NewFromFloat(b)) },
		"atMost": func(a, b decimal.Decimal) bool { return a.LessThanOrEqual(b) },
	}
	p, err := expr.Compile(`after.creditLimit <= before.creditLimit * 1.1 and segment in ["small", "midmarket"]`,
		expr.Env(env), expr.AsBool(), expr.Operator("<=", "atMost"), expr.Operator("*", "times"))
	if err != nil {
		fmt.Println(err)
		return
	}
	holds, err := expr.Run(p, env)
	fmt.Println(time.Since(began).Nanoseconds(), root.Kind == source.Map && holds == true && err == nil)
}
