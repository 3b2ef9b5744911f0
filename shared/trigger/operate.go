package trigger

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"sorrel/shared/fault"
)

// maxAnswer leaves room for what escaping a body in Lambda's answer of at most 6 MB adds.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maxAnswer = 4 << 20

// Operate handles requests from an HTTP API (payload format 2.0): those of people with IAM authorization, and lookups of
// programs, with a token that the API has checked or with a key.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-access-control-iam.html
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
func Operate(h http.Handler, done func()) func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	return func(ctx context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		defer done()
		if e.RequestContext.HTTP.Method == "" {
			return events.APIGatewayV2HTTPResponse{}, fault.New(fault.Malformed, "trigger.operate", "the event is no HTTP API request")
		}
		ctx, cancel := within(ctx)
		defer cancel()
		w := &written{header: http.Header{}, status: http.StatusOK}
		if r, err := request(ctx, e); err != nil {
			Refuse(w, err)
		} else {
			h.ServeHTTP(w, r)
		}
		if w.body.Len() > maxAnswer {
			size := w.body.Len()
			w = &written{header: http.Header{}}
			Refuse(w, &fault.Error{Class: fault.TooLarge, Op: "trigger.operate", Detail: fmt.Sprintf("the answer has %d bytes; at most %d can be sent", size, maxAnswer),
				Remedy: "narrow the question by its parameters, or ask from the command line with --table"})
		}
		out := events.APIGatewayV2HTTPResponse{StatusCode: w.status, Headers: map[string]string{}, Body: w.body.String()}
		for name, values := range w.header {
			out.Headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
		return out, nil
	}
}

// request is the HTTP request that an event tells of. The path may come escaped or not.
func request(ctx context.Context, e events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	raw := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if raw, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return nil, fault.New(fault.Malformed, "trigger.operate", "body is not the base64 it claims to be")
		}
	}
	at, err := url.ParseRequestURI(e.RawPath)
	if err != nil {
		at = &url.URL{Path: e.RawPath}
	}
	if _, err := url.ParseQuery(e.RawQueryString); err != nil {
		return nil, fault.New(fault.Malformed, "trigger.operate", "query string cannot be parsed")
	}
	at.RawQuery = e.RawQueryString
	r, err := http.NewRequestWithContext(ctx, e.RequestContext.HTTP.Method, at.String(), bytes.NewReader(raw))
	if err != nil {
		return nil, fault.New(fault.Malformed, "trigger.operate", "method or path cannot be parsed")
	}
	for k, v := range e.Headers {
		r.Header.Set(k, v)
	}
	r.Host, r.RemoteAddr = e.RequestContext.DomainName, e.RequestContext.HTTP.SourceIP
	if a := e.RequestContext.Authorizer; a != nil && a.IAM != nil {
		r = r.WithContext(context.WithValue(r.Context(), arn{}, a.IAM.UserARN))
	} else if a != nil && a.JWT != nil {
		r = r.WithContext(context.WithValue(r.Context(), claims{}, a.JWT.Claims))
	}
	return r, nil
}

// written is an answer in memory.
type written struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *written) Header() http.Header         { return w.header }
func (w *written) WriteHeader(status int)      { w.status = status }
func (w *written) Write(b []byte) (int, error) { return w.body.Write(b) }
