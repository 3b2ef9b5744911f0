package cloud

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"crypto/rand"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"sorrel/shared/deadline"
	"sorrel/shared/fault"
)

// Calls says how an adapter makes its requests. The zero value is the production setting.
type Calls struct {
	Now func() time.Time // default time.Now
	// Rand makes revisions, request tokens and jitter; default crypto/rand. Tokens are remembered for ten minutes per AWS
	// account, so a seeded source must not repeat itself there.
	Rand     io.Reader
	Attempts int                                        // per request; default 6, so at most about 0.8 s of waiting
	Timeout  time.Duration                              // of one attempt; default 3 s
	Wait     func(context.Context, time.Duration) error // between attempts; default a timer that heeds the context
}

const (
	defaultAttempts = 6
	defaultTimeout  = 3 * time.Second
	baseDelay       = 25 * time.Millisecond
	maxDelay        = time.Second
)

type caller struct {
	now      func() time.Time
	attempts int
	timeout  time.Duration
	wait     func(context.Context, time.Duration) error

	mu   sync.Mutex // guards rand: a seeded source is not safe for concurrent use
	rand io.Reader
}

func newCaller(c Calls) *caller {
	out := &caller{now: c.Now, attempts: c.Attempts, timeout: c.Timeout, wait: c.Wait, rand: c.Rand}
	if out.now == nil {
		out.now = time.Now
	}
	if out.attempts <= 0 {
		out.attempts = defaultAttempts
	}
	if out.timeout <= 0 {
		out.timeout = defaultTimeout
	}
	if out.wait == nil {
		out.wait = deadline.Pause
	}
	if out.rand == nil {
		out.rand = rand.Reader
	}
	return out
}

// token returns 120 random bits as 20 characters that are safe everywhere.
func (c *caller) token() (string, error) {
	var b [15]byte
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := io.ReadFull(c.rand, b[:]); err != nil {
		return "", fault.Wrap(fault.Internal, "cloud.random", "", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// backoff is full jitter: anything from nothing to the doubled base.
func (c *caller) backoff(n int) time.Duration {
	limit := min(baseDelay<<min(n, 10), maxDelay)
	var b [8]byte
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := io.ReadFull(c.rand, b[:]); err != nil {
		return limit
	}
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(limit))
}

// verdict says what a failed attempt proves.
type verdict uint8

const (
	final     verdict = iota // an answer that another attempt would not change
	busy                     // refused because of load or contention: nothing was done
	unreached                // no connection: nothing was done
	lost                     // no usable answer: it may have been done
)

// outcome of all attempts of one request. anyLost is set when any attempt, not only the last, was lost; ended when
// the caller's context has ended.
type outcome struct {
	err     error
	verdict verdict
	anyLost bool
	ended   error
}

// do attempts call until it has a final answer, attempts are used up or ctx ends. extra is added to the timeout
// of each attempt (a long poll).
func (c *caller) do(ctx context.Context, extra time.Duration, call func(context.Context) error) (o outcome) {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, c.timeout+extra)
		o.err = call(attempt)
		cancel()
		if o.err == nil {
			return o
		}
		o.verdict = verdictOf(o.err)
		o.anyLost = o.anyLost || o.verdict == lost
		if o.verdict == final || n+1 >= c.attempts || c.wait(ctx, c.backoff(n)) != nil {
			o.ended = ctx.Err()
			return o
		}
	}
}

// readFault classifies the failure of a request that changes nothing or may be made again. That the caller's own
// time is up says nothing about AWS: that stays a plain context error.
func (o outcome) readFault(op, id string) error {
	if o.ended != nil && o.verdict == lost {
		return fmt.Errorf("%s(%s): %w: %w", op, id, o.ended, o.err)
	}
	e := &fault.Error{Class: fault.Internal, Op: op, ID: id, Err: o.err}
	var api smithy.APIError
	if errors.As(o.err, &api) {
		e.Code = api.ErrorCode()
	}
	switch o.verdict {
	case busy:
		e.Class, e.Remedy = fault.Throttled, "try again later; if it persists, look for a hot partition or raise the limit"
	case unreached, lost:
		e.Class = fault.Down
	case final:
		e.Remedy = remedy(e.Code)
	}
	return e
}

// writeFault classifies the failure of a request that may have changed something.
func (o outcome) writeFault(op, id string) error {
	if o.anyLost {
		return &fault.Error{Class: fault.Unknown, Op: op, ID: id, Err: o.err,
			Detail: "at least one attempt had no answer", Remedy: "read again before deciding"}
	}
	return o.readFault(op, id)
}

func remedy(code string) string {
	switch code {
	case "AccessDeniedException", "AccessDenied", "KmsAccessDenied":
		return "give the role the permission named in the message"
	case "ResourceNotFoundException", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue":
		return "check the name, the region and that the stack is deployed"
	case "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "ExpiredToken", "InvalidSignatureException":
		return "renew the AWS credentials"
	}
	return ""
}

func verdictOf(err error) verdict {
	if cancelled := (*ddb.TransactionCanceledException)(nil); errors.As(err, &cancelled) {
		return cancelledVerdict(cancelled)
	}
	if partial := (*entriesError)(nil); errors.As(err, &partial) {
		return partial.verdict()
	}
	if api := smithy.APIError(nil); errors.As(err, &api) {
		code := api.ErrorCode()
		// TransactionConflictException: another request holds the item; nothing was done.
		if _, throttle := retry.DefaultThrottleErrorCodes[code]; throttle || code == "TransactionConflictException" || code == "ThrottlingError" {
			return busy
		}
		resp := (*smithyhttp.ResponseError)(nil)
		if api.ErrorFault() == smithy.FaultServer || code == "RequestTimeout" || code == "RequestTimeoutException" ||
			errors.As(err, &resp) && resp.HTTPStatusCode() >= http.StatusInternalServerError {
			return lost
		}
		return final
	}
	var (
		params        smithy.InvalidParamsError
		serialization *smithy.SerializationError
		signing       *v4.SigningError
	)
	if errors.As(err, &params) || errors.As(err, &serialization) || errors.As(err, &signing) {
		return final
	}
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return unreached
	}
	return lost
}

// cancelledVerdict: a transaction cancelled only by contention or throttling may be sent again.
func cancelledVerdict(e *ddb.TransactionCanceledException) verdict {
	contended := false
	for _, r := range e.CancellationReasons {
		switch deref(r.Code) {
		case "", "None":
		case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded":
			contended = true
		default:
			return final
		}
	}
	if contended {
		return busy
	}
	return final
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
