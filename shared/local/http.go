package local

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/operate"
	"sorrel/shared/record"
	"sorrel/shared/trigger"
	"sorrel/shared/vendorhttp"
)

func (h *Host) routes() http.Handler {
	mux := Answers(h.operate)
	mux.HandleFunc("POST "+trigger.WebhookPath+"{platform}", h.webhook)
	mux.HandleFunc("POST /_local/events", h.event)
	if twins := onlyLocal(h.options.Endpoints); len(twins) > 0 {
		answer(mux, "GET /v1/dev", func(*http.Request) (any, error) { return twins, nil })
	}
	return mux
}

// Answers serves what people ask: status, traces, records, why, exceptions. It only reads.
func Answers(f *operate.Flow) *http.ServeMux {
	mux := http.NewServeMux()
	answer(mux, "GET /v1/status", func(r *http.Request) (any, error) { return f.Status(r.Context()) })
	answer(mux, "GET /v1/traces/{id}", func(r *http.Request) (any, error) { return f.Trace(r.Context(), r.PathValue("id")) })
	answer(mux, "GET /v1/records/{entity}/{id}", func(r *http.Request) (any, error) { return f.Record(r.Context(), recordID(r)) })
	answer(mux, "GET /v1/records/{entity}/{id}/why", func(r *http.Request) (any, error) {
		return f.Why(r.Context(), recordID(r), r.URL.Query().Get("field"))
	})
	answer(mux, "GET /v1/links/{platform}/{id}", func(r *http.Request) (any, error) {
		ref := record.Ref{Platform: r.PathValue("platform"), Object: r.URL.Query().Get("object"), ID: r.PathValue("id")}
		id, err := f.Resolve(r.Context(), ref)
		return map[string]record.ID{"record": id}, err
	})
	answer(mux, "GET /v1/exceptions", func(r *http.Request) (any, error) {
		return f.Exceptions(r.Context(), operate.Filter{All: r.URL.Query().Get("all") == "true"})
	})
	return mux
}

// onlyLocal leaves out everything that is no twin on this machine: a real vendor's credentials are never shown.
func onlyLocal(endpoints map[string]boot.Endpoint) map[string]boot.Endpoint {
	out := map[string]boot.Endpoint{}
	for name, e := range endpoints {
		if u, err := url.Parse(e.URL); err == nil && vendorhttp.Loopback(u.Hostname()) {
			out[name] = e
		}
	}
	return out
}

func recordID(r *http.Request) record.ID {
	return record.ID(r.PathValue("entity") + "/" + r.PathValue("id"))
}

// webhook turns a request into the event that an HTTP API would send. The body is read up to one byte over
// the bound, so that the function itself refuses it.
func (h *Host) webhook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, intake.MaxBody+1))
	if err != nil {
		problem(w, fault.Wrap(fault.Malformed, "local.http", "", err))
		return
	}
	e := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: r.URL.Path, RawQueryString: r.URL.RawQuery,
		Headers: make(map[string]string, len(r.Header)), PathParameters: map[string]string{"platform": r.PathValue("platform")}}
	for k, v := range r.Header {
		e.Headers[strings.ToLower(k)] = strings.Join(v, ",")
	}
	e.RequestContext.HTTP.Method, e.RequestContext.HTTP.Path = r.Method, r.URL.Path
	if utf8.Valid(body) {
		e.Body = string(body)
	} else {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	ctx, cancel := context.WithTimeout(r.Context(), functionTimeout)
	defer cancel()
	out := trigger.HTTP(ctx, h.intake, e)
	for k, v := range out.Headers {
		w.Header().Set(k, v)
	}
	w.WriteHeader(out.StatusCode)
	_, _ = io.WriteString(w, out.Body) // the caller hung up: it will send again
}

// event stands in for an EventBridge rule: the Salesforce twin posts here what Event Relay would put on the bus.
func (h *Host) event(w http.ResponseWriter, r *http.Request) {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err != nil || !vendorhttp.Loopback(host) {
		problem(w, fault.New(fault.Unauthenticated, "local.event", "events carry no signature and are taken from this machine only"))
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, intake.MaxBody+1))
	if err == nil && len(body) > intake.MaxBody {
		err = fault.New(fault.TooLarge, "local.event", "event is too large")
	}
	if err == nil {
		_, err = trigger.Intake(h.intake, func() {})(r.Context(), body)
	}
	if err != nil {
		problem(w, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func answer(mux *http.ServeMux, pattern string, f func(*http.Request) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r)
		if err != nil {
			problem(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(out) // the caller hung up
	})
}

func problem(w http.ResponseWriter, err error) {
	p := intake.ProblemOf(err, "")
	if p.Detail == "" && p.Status < 500 {
		p.Detail = rootCause(err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller hung up
}

func rootCause(err error) string {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}
