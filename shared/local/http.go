package local

import (
	"context"
	"encoding/base64"
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
	"sorrel/shared/flow/lookup"
	"sorrel/shared/trigger"
	"sorrel/shared/vendorhttp"
)

func (h *Host) routes() http.Handler {
	w := h.world
	mux := trigger.Desk{Config: w.Config, Ask: w.Operate(), Act: w.Steward(), Once: w.Once(), Again: w.Replay(), Compare: w.Reconcile(), Runs: w.Workflow(), Tell: w.Publish(), Dead: w.DeadLetters(), Who: trigger.Trusted(w.Config), Telemetry: w.Telemetry}.Routes()
	asks := trigger.Lookups{Config: w.Config, Ask: w.Lookup(), Quotas: &lookup.Quotas{Taker: w.Ledger}, Now: w.Now, NewID: boot.NewID(w.Now), Telemetry: w.Telemetry}.Routes()
	for _, path := range []string{"records", "customers/{id}/context", "invoices", "entitlements", "openapi.json"} {
		mux.Handle("GET /v1/"+path, asks)
	}
	mux.Handle(trigger.KeyedPath+"/", asks)
	mux.HandleFunc("POST "+trigger.WebhookPath+"{platform}", h.webhook)
	mux.HandleFunc("POST /_local/events", h.event)
	if twins := onlyLocal(h.options.Endpoints); len(twins) > 0 {
		mux.HandleFunc("GET /v1/dev", func(w http.ResponseWriter, _ *http.Request) { trigger.Answer(w, twins) })
	}
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

// webhook turns a request into the event that an HTTP API would send. The body is read up to one byte over
// the bound, so that the function itself refuses it.
func (h *Host) webhook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, intake.MaxBody+1))
	if err != nil {
		trigger.Refuse(w, fault.Wrap(fault.Malformed, "local.http", "", err))
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
		trigger.Refuse(w, fault.New(fault.Unauthenticated, "local.event", "events carry no signature and are taken from this machine only"))
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
		trigger.Refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
