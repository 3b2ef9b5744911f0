package cloud

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// DynamoAPI is what Store needs of a *dynamodb.Client.
type DynamoAPI interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// Attribute names of the table. They are part of the persistent schema.
const (
	attrPart    = "part"
	attrSort    = "sort"
	attrValue   = "value"
	attrRev     = "rev"
	attrExpires = "expires"
)

const batchGetMax = 100 // keys in one BatchGetItem

// StoreOptions of NewStore; the zero value is the production setting.
type StoreOptions struct {
	Calls
	// OnUnits hears of the request units of every answered request, by the price rules (see the package
	// documentation). The verbs are get, getmany, range, put, delete and transact. It must be safe for concurrent use.
	OnUnits func(verb string, read, write float64)
}

// Store is store.Store and store.Getter on one DynamoDB table.
type Store struct {
	api   DynamoAPI
	table string
	calls *caller
	units func(verb string, read, write float64)
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Getter = (*Store)(nil)
)

// NewStore returns the store kept in table.
func NewStore(api DynamoAPI, table string, o StoreOptions) *Store {
	s := &Store{api: api, table: table, calls: newCaller(o.Calls), units: o.OnUnits}
	if s.units == nil {
		s.units = func(string, float64, float64) {}
	}
	return s
}

// once switches the SDK's own retries off: caller.do makes the attempts.
func once(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, k store.Key) (store.Entry, error) {
	if err := store.ValidateKey(k); err != nil {
		return store.Entry{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Entry{}, fmt.Errorf("cloud.get(%v): %w", k, err)
	}
	now := s.calls.now()
	var out *dynamodb.GetItemOutput
	o := s.calls.do(ctx, 0, func(ctx context.Context) (err error) {
		out, err = s.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: keyItem(k), ConsistentRead: aws.Bool(true)}, once)
		return err
	})
	if o.err != nil {
		return store.Entry{}, readError(o, "cloud.get", k.String())
	}
	s.units("get", readUnits(sizeOf(out.Item)), 0)
	if len(out.Item) == 0 {
		return store.Entry{}, store.ErrNotFound
	}
	e, err := s.entry(out.Item)
	if err != nil {
		return store.Entry{}, err
	}
	if store.Expired(e.Expires, now) {
		return store.Entry{}, store.ErrNotFound
	}
	return e, nil
}

// GetMany implements store.Getter. It is no snapshot: each entry is current, all of them need not be of one moment.
func (s *Store) GetMany(ctx context.Context, keys ...store.Key) ([]store.Entry, error) {
	seen := make(map[store.Key]struct{}, len(keys))
	want := make([]item, 0, len(keys))
	for _, k := range keys {
		if err := store.ValidateKey(k); err != nil {
			return nil, err
		}
		if _, dup := seen[k]; !dup {
			seen[k] = struct{}{}
			want = append(want, keyItem(k))
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cloud.getmany(%d keys): %w", len(keys), err)
	}
	var out []store.Entry
	for len(want) > 0 {
		n := min(len(want), batchGetMax)
		got, err := s.batchGet(ctx, want[:n])
		if err != nil {
			return nil, err
		}
		out, want = append(out, got...), want[n:]
	}
	return out, nil
}

// batchGet reads at most batchGetMax keys. DynamoDB leaves keys unprocessed above 16 MB and when throttled: as long as
// there is progress that is paging, without progress it uses up attempts.
func (s *Store) batchGet(ctx context.Context, keys []item) ([]store.Entry, error) {
	id := fmt.Sprintf("%d keys of %s", len(keys), s.table)
	var out []store.Entry
	for idle := 0; len(keys) > 0; {
		now := s.calls.now()
		var page *dynamodb.BatchGetItemOutput
		o := s.calls.do(ctx, 0, func(ctx context.Context) (err error) {
			page, err = s.api.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
				s.table: {Keys: keys, ConsistentRead: aws.Bool(true)},
			}}, once)
			return err
		})
		if o.err != nil {
			return nil, readError(o, "cloud.getmany", id)
		}
		items, left := page.Responses[s.table], page.UnprocessedKeys[s.table].Keys
		units := float64(max(0, len(keys)-len(left)-len(items))) // missing keys
		for _, it := range items {
			units += readUnits(sizeOf(it))
			e, err := s.entry(it)
			if err != nil {
				return nil, err
			}
			if !store.Expired(e.Expires, now) {
				out = append(out, e)
			}
		}
		s.units("getmany", units, 0)
		if len(left) == 0 {
			return out, nil
		}
		if idle++; len(left) < len(keys) {
			idle = 0
		}
		if idle >= s.calls.attempts {
			return nil, &fault.Error{Class: fault.Throttled, Op: "cloud.getmany", ID: id,
				Detail: fmt.Sprintf("%d keys stay unprocessed", len(left)), Remedy: "try again later"}
		}
		if err := s.calls.wait(ctx, s.calls.backoff(idle)); err != nil {
			return nil, fmt.Errorf("cloud.getmany(%s): %w", id, err)
		}
		keys = left
	}
	return out, nil
}

// Range implements store.Store. Pages grow from 25 to 1000 items, so that a reader who stops early has not paid for a
// megabyte.
func (s *Store) Range(ctx context.Context, part, from, to string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if part == "" || len(part) > store.MaxPart || to != "" && from >= to {
			return // no such entries can exist
		}
		in := s.query(part, from, to)
		for limit := int32(25); ; limit = min(limit*4, 1000) {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, fmt.Errorf("cloud.range(%q): %w", part, err))
				return
			}
			in.Limit = aws.Int32(limit)
			now := s.calls.now()
			var page *dynamodb.QueryOutput
			o := s.calls.do(ctx, 0, func(ctx context.Context) (err error) {
				page, err = s.api.Query(ctx, in, once)
				return err
			})
			if o.err != nil {
				yield(store.Entry{}, readError(o, "cloud.range", strconv.Quote(part)))
				return
			}
			size := 0
			for _, it := range page.Items {
				size += sizeOf(it)
			}
			s.units("range", readUnits(size), 0)
			for _, it := range page.Items {
				e, err := s.entry(it)
				if err != nil {
					yield(store.Entry{}, err)
					return
				}
				if store.Expired(e.Expires, now) || to != "" && e.Sort >= to {
					continue
				}
				if !yield(e, nil) {
					return
				}
			}
			if len(page.LastEvaluatedKey) == 0 {
				return
			}
			in.ExclusiveStartKey = page.LastEvaluatedKey
		}
	}
}

// query selects from ≤ sort ≤ to, as DynamoDB has no half-open range: the caller drops sort = to. Bounds longer than
// any key are cut, which changes no comparison with a key and keeps them within DynamoDB's limit of 1024 bytes.
func (s *Store) query(part, from, to string) *dynamodb.QueryInput {
	bound := func(b string) *types.AttributeValueMemberB { return bytesOf(b[:min(len(b), store.MaxSort+1)]) }
	in := &dynamodb.QueryInput{
		TableName:                 &s.table,
		ConsistentRead:            aws.Bool(true),
		ExpressionAttributeNames:  map[string]string{"#part": attrPart},
		ExpressionAttributeValues: item{":part": bytesOf(part)},
	}
	cond := "#part = :part"
	if from != "" || to != "" {
		in.ExpressionAttributeNames["#sort"] = attrSort
	}
	if from != "" {
		in.ExpressionAttributeValues[":from"] = bound(from)
	}
	if to != "" {
		in.ExpressionAttributeValues[":to"] = bound(to)
	}
	switch {
	case from != "" && to != "":
		cond += " AND #sort BETWEEN :from AND :to"
	case from != "":
		cond += " AND #sort >= :from"
	case to != "":
		cond += " AND #sort < :to"
	}
	in.KeyConditionExpression = &cond
	return in
}

// Commit implements store.Store. The clock is sampled once: every attempt judges expiry by the same moment.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.Validate(ops); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cloud.commit of %d operations, nothing written: %w", len(ops), err)
	}
	now := s.calls.now()
	if len(ops) > 1 {
		return s.transact(ctx, ops, now)
	}
	switch op := ops[0]; op.Kind {
	case store.Put:
		return s.put(ctx, op, now)
	case store.Delete:
		return s.delete(ctx, op, now)
	default:
		return s.check(ctx, op)
	}
}

func (s *Store) put(ctx context.Context, op store.Op, now time.Time) error {
	cond := conditionOf(op, now)
	rev, err := s.calls.token()
	if err != nil {
		return err
	}
	it := putItem(op, rev)
	attempt := 0
	o := s.calls.do(ctx, 0, func(ctx context.Context) error {
		// Without a condition a repeated write may overwrite a later one, and must then be a new state.
		if attempt++; attempt > 1 && cond.expr == nil {
			again, err := s.calls.token()
			if err != nil {
				return err
			}
			it[attrRev] = &types.AttributeValueMemberS{Value: again}
		}
		_, err := s.api.PutItem(ctx, &dynamodb.PutItemInput{
			TableName:                           &s.table,
			Item:                                it,
			ConditionExpression:                 cond.expr,
			ExpressionAttributeNames:            cond.names,
			ExpressionAttributeValues:           cond.values,
			ReturnValuesOnConditionCheckFailure: cond.returns,
		}, once)
		return err
	})
	if o.err == nil {
		s.units("put", 0, writeUnits(sizeOf(it)))
		return nil
	}
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(o.err, &failed) {
		s.units("put", 0, writeUnits(max(sizeOf(it), sizeOf(failed.Item))))
		if revOf(failed.Item) == rev {
			return nil // an attempt whose answer was lost had written it
		}
		return conditionFailed(o, "cloud.put", op.Key)
	}
	return writeError(o, "cloud.put", op.Key.String())
}

func (s *Store) delete(ctx context.Context, op store.Op, now time.Time) error {
	cond := conditionOf(op, now)
	o := s.calls.do(ctx, 0, func(ctx context.Context) error {
		_, err := s.api.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName:                           &s.table,
			Key:                                 keyItem(op.Key),
			ConditionExpression:                 cond.expr,
			ExpressionAttributeNames:            cond.names,
			ExpressionAttributeValues:           cond.values,
			ReturnValuesOnConditionCheckFailure: cond.returns,
		}, once)
		return err
	})
	if o.err == nil {
		s.units("delete", 0, 1)
		return nil
	}
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(o.err, &failed) {
		s.units("delete", 0, writeUnits(sizeOf(failed.Item)))
		return conditionFailed(o, "cloud.delete", op.Key)
	}
	return writeError(o, "cloud.delete", op.Key.String())
}

// conditionFailed: after an unanswered attempt a failed condition may be the consequence of our own write, which
// somebody has since changed or which was a delete. Only without such an attempt is it a conflict.
func conditionFailed(o outcome, op string, k store.Key) error {
	if o.anyLost {
		return o.writeFault(op, k.String())
	}
	return &store.ConflictError{Keys: []store.Key{k}}
}

func (s *Store) check(ctx context.Context, op store.Op) error {
	e, err := s.Get(ctx, op.Key)
	absent := errors.Is(err, store.ErrNotFound)
	if err != nil && !absent {
		return err
	}
	if op.Absent != absent || !absent && e.Rev != op.IfRev {
		return &store.ConflictError{Keys: []store.Key{op.Key}}
	}
	return nil
}

func (s *Store) transact(ctx context.Context, ops []store.Op, now time.Time) error {
	// One token for two uses: as the request token it makes DynamoDB repeat the first outcome for ten minutes instead
	// of writing twice, and as the revision of every entry it shows them as one commit.
	rev, err := s.calls.token()
	if err != nil {
		return err
	}
	sizes := make([]int, len(ops))
	actions := make([]types.TransactWriteItem, len(ops))
	for i, op := range ops {
		c := conditionOf(op, now)
		switch op.Kind {
		case store.Put:
			it := putItem(op, rev)
			sizes[i] = sizeOf(it)
			actions[i].Put = &types.Put{TableName: &s.table, Item: it, ConditionExpression: c.expr,
				ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values, ReturnValuesOnConditionCheckFailure: c.returns}
		case store.Delete:
			actions[i].Delete = &types.Delete{TableName: &s.table, Key: keyItem(op.Key), ConditionExpression: c.expr,
				ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values, ReturnValuesOnConditionCheckFailure: c.returns}
		case store.Check:
			actions[i].ConditionCheck = &types.ConditionCheck{TableName: &s.table, Key: keyItem(op.Key), ConditionExpression: c.expr,
				ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values, ReturnValuesOnConditionCheckFailure: c.returns}
		}
	}
	o := s.calls.do(ctx, 0, func(ctx context.Context) error {
		_, err := s.api.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: actions, ClientRequestToken: &rev}, once)
		return err
	})
	cancelled := (*types.TransactionCanceledException)(nil)
	if o.err != nil && !errors.As(o.err, &cancelled) {
		return writeError(o, "cloud.commit", commitID(ops))
	}
	if cancelled != nil {
		for i, r := range cancelled.CancellationReasons[:min(len(ops), len(cancelled.CancellationReasons))] {
			sizes[i] = max(sizes[i], sizeOf(r.Item))
		}
	}
	units := 0.0
	for _, n := range sizes {
		units += 2 * writeUnits(n)
	}
	s.units("transact", 0, units)
	if cancelled == nil {
		return nil
	}
	return judge(o, cancelled, ops, rev)
}

// judge says what a cancelled transaction means. An entry that carries our revision proves that the whole commit was
// written by an earlier attempt; the request token makes that needless on AWS, other servers may not honour it.
func judge(o outcome, cancelled *types.TransactionCanceledException, ops []store.Op, rev string) error {
	var conflict []store.Key
	for i, r := range cancelled.CancellationReasons[:min(len(ops), len(cancelled.CancellationReasons))] {
		switch deref(r.Code) {
		case "ConditionalCheckFailed":
			if revOf(r.Item) == rev {
				return nil
			}
			conflict = append(conflict, ops[i].Key)
		case "ValidationError", "ItemCollectionSizeLimitExceeded":
			return &store.InvalidError{Reason: fmt.Sprintf("key %v: %s", ops[i].Key, deref(r.Message))}
		}
	}
	if conflict != nil {
		return &store.ConflictError{Keys: conflict}
	}
	return writeError(o, "cloud.commit", commitID(ops))
}

func commitID(ops []store.Op) string { return fmt.Sprintf("%v and %d more", ops[0].Key, len(ops)-1) }

// condition is a precondition as the SDK takes it; the zero value is none.
type condition struct {
	expr    *string
	names   map[string]string
	values  item
	returns types.ReturnValuesOnConditionCheckFailure
}

func conditionOf(op store.Op, now time.Time) condition {
	if !op.Absent && op.IfRev == "" {
		return condition{}
	}
	c := condition{
		names:   map[string]string{"#expires": attrExpires},
		values:  item{":now": number(now.Unix())},
		returns: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	if op.Absent {
		c.names["#part"] = attrPart
		c.expr = aws.String("attribute_not_exists(#part) OR #expires <= :now")
		return c
	}
	c.names["#rev"] = attrRev
	c.values[":rev"] = &types.AttributeValueMemberS{Value: string(op.IfRev)}
	c.expr = aws.String("#rev = :rev AND (attribute_not_exists(#expires) OR #expires > :now)")
	return c
}

func keyItem(k store.Key) item { return item{attrPart: bytesOf(k.Part), attrSort: bytesOf(k.Sort)} }

func putItem(op store.Op, rev string) item {
	it := keyItem(op.Key)
	it[attrRev] = &types.AttributeValueMemberS{Value: rev}
	if utf8.Valid(op.Value) {
		it[attrValue] = &types.AttributeValueMemberS{Value: string(op.Value)}
	} else {
		it[attrValue] = &types.AttributeValueMemberB{Value: op.Value}
	}
	if !op.Expires.IsZero() {
		it[attrExpires] = number(op.Expires.Unix())
	}
	return it
}

func bytesOf(s string) *types.AttributeValueMemberB {
	return &types.AttributeValueMemberB{Value: []byte(s)}
}

func number(n int64) *types.AttributeValueMemberN {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func revOf(it item) string {
	if v, ok := it[attrRev].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

// entry decodes an item; an item that this package did not write is a defect of the deployment.
func (s *Store) entry(it item) (store.Entry, error) {
	part, okPart := it[attrPart].(*types.AttributeValueMemberB)
	sort, okSort := it[attrSort].(*types.AttributeValueMemberB)
	e := store.Entry{Rev: store.Rev(revOf(it))}
	if !okPart || !okSort || e.Rev == "" {
		return e, s.foreign("without binary part and sort and a rev")
	}
	e.Key = store.Key{Part: string(part.Value), Sort: string(sort.Value)}
	switch v := it[attrValue].(type) {
	case *types.AttributeValueMemberS:
		e.Value = []byte(v.Value)
	case *types.AttributeValueMemberB:
		e.Value = v.Value
	default:
		return e, s.foreign(fmt.Sprintf("%v without a value", e.Key))
	}
	switch v := it[attrExpires].(type) {
	case nil:
	case *types.AttributeValueMemberN:
		n, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil {
			return e, s.foreign(fmt.Sprintf("%v with expires that is no whole number", e.Key))
		}
		e.Expires = time.Unix(n, 0).UTC()
	default:
		return e, s.foreign(fmt.Sprintf("%v with expires that is no number", e.Key))
	}
	return e, nil
}

func (s *Store) foreign(what string) error {
	return &fault.Error{Class: fault.Internal, Op: "cloud.decode", ID: s.table, Detail: "item " + what,
		Remedy: "the table must belong to Sorrel alone; remove the item"}
}

func readError(o outcome, op, id string) error {
	if inv := invalid(o.err); inv != nil {
		return inv
	}
	return o.readFault(op, id)
}

// writeError is the failure of a write whose condition is not what failed.
func writeError(o outcome, op, id string) error {
	if inv := invalid(o.err); inv != nil {
		return inv // and so was every attempt before
	}
	return o.writeFault(op, id)
}

// invalid recognises DynamoDB's refusal of the request itself.
func invalid(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == "ValidationException" || api.ErrorCode() == "ItemCollectionSizeLimitExceededException") {
		return &store.InvalidError{Reason: "DynamoDB refused it: " + api.ErrorMessage()}
	}
	return nil
}
