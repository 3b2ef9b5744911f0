// Command cel compiles and evaluates one condition with cel.dev/cel-go. Its numbers are doubles here: CEL has no decimals.
package main

import (
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/shopspring/decimal"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
)

func main() {
	began := time.Now()
	var ps source.Problems
	_, root := contract.Load("order.v1.json", []byte("{}"), &ps)
	amount := decimal.RequireFromString("1090.10").InexactFloat64()
	holds, err := evaluate(amount)
	fmt.Println(time.Since(began).Nanoseconds(), root.Kind == source.Map && holds && err == nil)
}

func evaluate(amount float64) (bool, error) {
	env, err := cel.NewEnv(cel.Variable("before", cel.MapType(cel.StringType, cel.DoubleType)),
		cel.Variable("after", cel.MapType(cel.StringType, cel.DoubleType)), cel.Variable("segment", cel.StringType))
	if err != nil {
		return false, err
	}
	ast, issues := env.Compile(`after.creditLimit <= before.creditLimit * 1.1 && segment in ["small", "midmarket"]`)
	if issues.Err() != nil {
		return false, issues.Err()
	}
	p, err := env.Program(ast, cel.CostLimit(1000))
	if err != nil {
		return false, err
	}
	money := map[string]float64{"creditLimit": amount}
	out, _, err := p.Eval(map[string]any{"before": money, "after": money, "segment": "small"})
	return err == nil && out.Value() == true, err
}
