// Command floor starts and ends, with what every function links anyway.
package main

import (
	"fmt"
	"time"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/record"
)

func main() {
	began := time.Now()
	var ps source.Problems
	_, root := contract.Load("order.v1.json", []byte("{}"), &ps)
	v, err := record.ParseNumber("1090.10")
	fmt.Println(time.Since(began).Nanoseconds(), root.Kind == source.Map && !v.IsNull() && err == nil)
}
