package netsuitetwin

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/shopspring/decimal"
)

// What the record API calls the states of an invoice.
const (
	open            = "Open"
	paidInFull      = "Paid In Full"
	pendingApproval = "Pending Approval"
	rejected        = "Rejected"
	voided          = "Voided"
)

// letter is what SuiteQL says for an invoice's status.
func letter(r *rec) any {
	l, ok := map[string]string{open: "A", paidInFull: "B", pendingApproval: "D", rejected: "E", voided: "V"}[state(r)]
	if !ok {
		return nil
	}
	return l
}

func state(r *rec) string {
	m, _ := r.fields["status"].(map[string]any)
	id, _ := m["id"].(string)
	return id
}

// bill computes an invoice's total, what remains to be paid and, between open and paid, its status.
func bill(r *rec, in map[string]any) {
	if in["total"] == nil && r.fields["item"] != nil {
		sum := decimal.Zero
		for _, l := range itemsOf(r.fields["item"]) {
			quantity, okQ := dec(l["quantity"])
			rate, okR := dec(l["rate"])
			if l["amount"] == nil && okQ && okR {
				l["amount"] = json.Number(quantity.Mul(rate).Round(2).String())
			}
			amount, _ := dec(l["amount"])
			sum = sum.Add(amount)
		}
		r.fields["total"] = json.Number(sum.String())
	}
	total, _ := dec(r.fields["total"])
	paid, _ := dec(r.fields["amountPaid"])
	left := total.Sub(paid)
	if is := state(r); is == voided {
		left = decimal.Zero
	} else if in["status"] == nil && (is == "" || is == open || is == paidInFull) {
		is = open
		if total.IsPositive() && left.Sign() <= 0 {
			is = paidInFull
		}
		r.fields["status"] = map[string]any{"id": is, "refName": is}
	}
	r.fields["total"], r.fields["amountPaid"], r.fields["amountRemaining"] = json.Number(total.String()), json.Number(paid.String()), json.Number(left.String())
}

// Pay records a customer payment of that amount on an invoice, as a person does with Accept Payment; an empty amount is
// all that is open, and a negative one takes back what was paid, as a bounced payment does. NetSuite changes the invoice
// and the customer's balances without a user event on either: our kit hears of the payment, counts both and tells both.
func (t *Twin) Pay(id, amount string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, err := strconv.ParseInt(id, 10, 64)
	r := t.byID[invoice][key]
	if err != nil || r == nil {
		return fmt.Errorf("netsuitetwin: pay: invoice %q does not exist", id)
	}
	left, _ := dec(r.fields["amountRemaining"])
	paid, _ := dec(r.fields["amountPaid"])
	sum := left
	if amount != "" {
		if sum, err = decimal.NewFromString(amount); err != nil {
			return fmt.Errorf("netsuitetwin: pay: amount %q is not a number", amount)
		}
	}
	if is := state(r); is != open && (is != paidInFull || !sum.IsNegative()) {
		return fmt.Errorf("netsuitetwin: pay: invoice %s is %q: only an open one takes a payment", id, is)
	}
	if sum.IsZero() || sum.GreaterThan(left) || paid.Add(sum).IsNegative() {
		return fmt.Errorf("netsuitetwin: pay: %s of invoice %s is more than the %s that are open or the %s that are paid, or nothing", sum, id, left, paid)
	}
	now := t.opt.Now()
	in := map[string]any{"amountPaid": json.Number(paid.Add(sum).String()), "custbody_sorrel_paid_on": nil}
	if sum.Equal(left) {
		in["custbody_sorrel_paid_on"] = now.In(t.zone).Format(time.DateOnly)
	}
	if _, bad := t.save(invoice, r, 0, in, now, actor{context: "USEREVENT", user: person, trusted: true}); bad != nil {
		return fmt.Errorf("netsuitetwin: pay: invoice %s: %s %s", id, bad.code, bad.detail)
	}
	return nil
}

// owed brings the balances of the customers of an invoice up to date, of which one of old and now may be nil. If what they
// owe changed and the save was no silent one, the kit counts and tells the customers.
func (t *Twin) owed(old, now *rec, by actor) {
	told := map[int64]bool{}
	for _, r := range []*rec{old, now} {
		if r == nil || r.object != invoice {
			continue
		}
		m, _ := r.fields["entity"].(map[string]any)
		id, _ := m["id"].(string)
		key, _ := strconv.ParseInt(id, 10, 64)
		if c := t.byID[customer][key]; c != nil && !told[key] {
			told[key] = true
			t.balance(c, by)
		}
	}
}

func (t *Twin) balance(c *rec, by actor) {
	all, overdue := decimal.Zero, decimal.Zero
	today := t.opt.Now().In(t.zone).Format(time.DateOnly)
	for _, r := range t.byID[invoice] {
		if is := state(r); !refers(r.fields["entity"], c) || is == pendingApproval || is == rejected {
			continue
		}
		left, _ := dec(r.fields["amountRemaining"])
		all = all.Add(left)
		if due, _ := r.fields["dueDate"].(string); due != "" && due < today {
			overdue = overdue.Add(left)
		}
	}
	was, wasOverdue := c.fields["balance"], c.fields["overdueBalance"]
	in := map[string]any{"balance": json.Number(all.String()), "overdueBalance": json.Number(overdue.String())}
	if was == in["balance"] && wasOverdue == in["overdueBalance"] {
		return
	}
	at := t.opt.Now()
	if by.quiet {
		at = c.modified
	}
	// What the account holds already is fine to hold: the kit's own save changes nothing that could be refused.
	_, _ = t.save(customer, c, 0, in, at, actor{context: "USEREVENT", user: by.user, trusted: true, quiet: by.quiet})
}
