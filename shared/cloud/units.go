package cloud

import (
	"math"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// item is one DynamoDB item as the SDK has it.
type item = map[string]types.AttributeValue

// sizeOf is an item's size by DynamoDB's rules: names and values in bytes, a number at two digits a byte plus one.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
func sizeOf(it item) int {
	n := 0
	for name, v := range it {
		n += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberB:
			n += len(v.Value)
		case *types.AttributeValueMemberS:
			n += len(v.Value)
		case *types.AttributeValueMemberN:
			n += (len(v.Value)+1)/2 + 1
		}
	}
	return n
}

// readUnits of a strongly consistent read of size bytes; reading nothing costs one as well.
func readUnits(size int) float64 { return max(1, math.Ceil(float64(size)/4096)) }

// writeUnits of a plain write of an item of size bytes; a transaction costs twice that.
func writeUnits(size int) float64 { return max(1, math.Ceil(float64(size)/1024)) }
