package zendesk

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/vendorhttp"
)

// writeUser creates or updates an end user, without e-mails of the vendor to that person.
//
// create_or_update finds an existing user by e-mail address too, and would then give a person whom somebody else has
// entered, or another of our records, this external id. So it is used only without an address; with one the user is
// created, and an address that is taken is a refusal. A refusal may also mean that the external id is taken: then the user
// is there, and is updated.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#create-or-update-user
func (c *Connector) writeUser(ctx context.Context, w platform.Write, p place) platform.Written {
	body := fieldsOf(w)
	if id, said := body["organization_id"]; said { // the vendor's numbers may come as text from a reference
		body["organization_id"] = numeric(id)
	}
	if w.Ref.ID != "" {
		return c.updateUser(ctx, w, p, body)
	}
	body["skip_verify_email"] = true
	path := p.path
	if email := text(body["email"]); email == "" {
		delete(body, "email")
		path += "/create_or_update"
	}
	out := c.save(ctx, w.Ref, p, http.MethodPost, path, nil, nil, body)
	if !fault.Is(out.Err, fault.Refused) {
		return out
	}
	found, err := c.Find(ctx, User, w.External)
	switch {
	case err == nil:
		w.Ref.ID = found.ID
		delete(body, "skip_verify_email")
		return c.updateUser(ctx, w, p, body)
	case fault.Is(err, fault.NotFound) || fault.Is(err, fault.Refused):
		return out
	}
	return platform.Written{Err: err}
}

// updateUser updates a user and then, if it differs, the primary e-mail address.
func (c *Connector) updateUser(ctx context.Context, w platform.Write, p place, body map[string]any) platform.Written {
	email, said := body["email"]
	delete(body, "email")
	path := p.path + "/" + url.PathEscape(w.Ref.ID)
	n, _, err := c.saved(ctx, w.Ref, p, http.MethodPut, path, nil, nil, body)
	if err != nil {
		return platform.Written{ID: w.Ref.ID, Err: err}
	}
	out := platform.Written{ID: n.ID, Version: n.Version, Fields: n.Fields}
	if !said || strings.EqualFold(text(email), text(n.Fields["email"])) {
		return out
	}
	// The user's own updated_at after this is not in the answer.
	return platform.Written{ID: n.ID, Err: vendorhttp.Half("zendesk.user.write", c.setEmail(ctx, path+"/identities", text(email)))}
}

// setEmail makes email the primary address ("" = none). An address that the user has already is made primary; else
// the primary one is changed, so that none is left behind. Another user's address is refused, naming the field email.
func (c *Connector) setEmail(ctx context.Context, path, email string) error {
	const op = "user.email"
	answer, _, err := c.call(ctx, op, http.MethodGet, path, url.Values{"type[]": {"email"}, "page[size]": {"100"}}, nil, nil)
	if err != nil {
		return err
	}
	list, ok := answer["identities"].([]any)
	if !ok {
		return garbled(op, false, "the answer lacks identities", nil)
	}
	var primary, wanted string // ids
	others := 0
	for _, a := range list {
		m, _ := a.(map[string]any)
		if m["type"] != "email" {
			continue
		}
		if strings.EqualFold(text(m["value"]), email) {
			wanted = text(m["id"])
		}
		if m["primary"] == true {
			primary = text(m["id"])
		} else {
			others++
		}
	}
	identity := func(m map[string]any) map[string]any { return map[string]any{"identity": m} }
	switch {
	case email == "" && primary == "":
	case email == "" && others > 0:
		return &fault.Error{Class: fault.Refused, Op: "zendesk." + op, Fields: []string{"email"}, Detail: "the user has further e-mail addresses, one of which would take the place of the removed one",
			Remedy: "remove the further addresses in Zendesk"}
	case email == "":
		_, _, err = c.call(ctx, op, http.MethodDelete, path+"/"+url.PathEscape(primary), nil, nil, nil)
	case wanted != "":
		_, _, err = c.call(ctx, op, http.MethodPut, path+"/"+url.PathEscape(wanted)+"/make_primary", nil, nil, nil)
	case primary != "":
		_, _, err = c.call(ctx, op, http.MethodPut, path+"/"+url.PathEscape(primary), nil, nil, identity(map[string]any{"value": email}))
	default:
		_, _, err = c.call(ctx, op, http.MethodPost, path, nil, nil, identity(map[string]any{"type": "email", "value": email, "primary": true, "skip_verify_email": true}))
	}
	if e := fault.Outermost(err); fault.Is(err, fault.Refused) { // the identity calls the field value
		return &fault.Error{Class: fault.Refused, Op: "zendesk." + op, Code: e.Code, Fields: []string{"email"}, Detail: e.Detail, Err: err}
	}
	return err
}
