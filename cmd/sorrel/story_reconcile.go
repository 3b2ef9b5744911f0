package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sorrel/shared/certificate"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/record"
)

// behind is what was done behind Sorrel's back: native record → kinds of drift, of which it must be found as one.
type behind map[record.Ref][]reconcile.Kind

func (b behind) did(platform, id string, kinds ...reconcile.Kind) {
	b[record.Ref{Platform: platform, Object: companies[platform], ID: id}] = kinds
}

// unheard is the chapter of what happens while nobody listens.
func (d *demo) unheard(ctx context.Context) error {
	cast, err := d.regulars(ctx, 15)
	if err != nil {
		return err
	}
	if err := d.reconciled(ctx); err != nil { // of what the chapters before have left
		return err
	}
	d.printf("  a day later no webhook is sent any more; on every platform customers are changed, added, deleted and merged\n")
	d.twins.SendTo("")
	d.clock.jump(24 * time.Hour)
	done, err := d.behindBack(cast)
	if err != nil {
		return err
	}
	d.clock.jump(time.Hour)
	d.hold("Sorrel has heard of nothing", "", d.settled(ctx))
	d.printf("  $ sorrel reconcile run --entity customer --as %s\n", stewart)
	if err := (reconcileRun{Entity: "customer", acting: d.as(stewart)}).Run(binding{ctx}, d.screen); err != nil {
		return err
	}
	r, err := d.lastRun(ctx)
	if err != nil {
		return err
	}
	calls := 0
	for _, s := range r.Sets {
		calls += s.Calls.Sum()
	}
	d.hold(fmt.Sprintf("all %d differences are found, and nothing else", len(done)), fmt.Sprintf("with %d calls over %d sets", calls, len(r.Sets)), done.found(r))
	d.certified(ctx, r)
	d.twins.SendTo(d.host.URL())
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.then(ctx, "what was changed in NetSuite is everywhere", cast[0], map[string]string{"salesforce ERP_Credit_Limit__c": "27000", "zendesk organization_fields.erp_credit_limit": "27000", "servicenow u_credit_limit": "27000"})
	d.then(ctx, "what sales changed is on the desk", cast[1], map[string]string{"servicenow u_industry": "retail"})
	d.then(ctx, "what support changed is in the CRM", cast[2], map[string]string{"salesforce Phone": "0555 33932"})
	d.expect(ctx, "who was added in NetSuite is everybody's customer", func() (string, error) {
		for ref := range done {
			if ref.Platform == record.NetSuite && done[ref][0] == reconcile.Missing {
				c, err := d.known(ctx, ref.ID)
				return string(c.id), err
			}
		}
		return "", errors.New("nobody was added")
	})
	if err := d.settled(ctx); err != nil {
		return err
	}
	return d.reconciled(ctx)
}

// regulars are customers that everybody has.
func (d *demo) regulars(ctx context.Context, n int) ([]company, error) {
	var ids []string
	for i := range n {
		id, err := d.does(record.NetSuite, "", map[string]any{"companyName": fmt.Sprintf("Regular %02d", i+1), "entityId": fmt.Sprintf("REG%02d", i+1), "phone": fmt.Sprintf("0555 %04d", i+1),
			"creditLimit": 1000, "creditHoldOverride": map[string]any{"id": "AUTO"}, "addressBook": address(fmt.Sprintf("Marktplatz %d", i+1), "Wien", fmt.Sprint(1010+10*i), "AT")})
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	if err := d.settled(ctx); err != nil {
		return nil, err
	}
	var out []company
	for _, id := range ids {
		c, err := d.known(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// behindBack does to customers what nobody tells Sorrel.
func (d *demo) behindBack(cast []company) (behind, error) {
	done := behind{}
	changed := []reconcile.Kind{reconcile.Changed, reconcile.Stale}
	for i, e := range []struct {
		platform string
		fields   map[string]any
	}{
		{record.NetSuite, map[string]any{"creditLimit": 27000}}, {record.Salesforce, map[string]any{"Industry": "Retail"}},
		{record.ServiceNow, map[string]any{"phone": "0555 33932"}}, {record.Zendesk, map[string]any{"notes": "Rings on Mondays"}},
	} {
		if _, err := d.does(e.platform, cast[i].on[e.platform], e.fields); err != nil {
			return nil, err
		}
		done.did(e.platform, cast[i].on[e.platform], changed...)
	}
	for p, fields := range map[string]map[string]any{
		record.NetSuite:   {"companyName": "Rancho grande", "entityId": "RANCH", "creditLimit": 900, "creditHoldOverride": map[string]any{"id": "AUTO"}, "addressBook": address("Av. del Libertador 900", "Buenos Aires", "1010", "AR")},
		record.Salesforce: {"Name": "Romero y tomillo", "BillingCity": "Madrid", "BillingCountry": "ES"},
		record.ServiceNow: {"name": "Santé Gourmet", "city": "Stavern"},
		record.Zendesk:    {"name": "Seven Seas Imports"},
	} {
		id, err := d.does(p, "", fields)
		if err != nil {
			return nil, err
		}
		done.did(p, id, reconcile.Missing)
	}
	remove := map[string]func(string, string) error{record.NetSuite: d.twins.NetSuite.Delete, record.Salesforce: d.twins.Salesforce.Delete, record.ServiceNow: d.twins.ServiceNow.Delete, record.Zendesk: d.twins.Zendesk.Delete}
	for i, p := range everybody {
		id := cast[4+i].on[p]
		if err := remove[p](companies[p], id); err != nil {
			return nil, err
		}
		done.did(p, id, reconcile.Deleted, reconcile.Extra)
	}
	for i, p := range []string{record.NetSuite, record.Salesforce, record.Zendesk} {
		winner, loser := cast[8+2*i].on[p], cast[9+2*i].on[p]
		before, _ := d.stamp(p, winner)
		unite := map[string]func(string, string, string) error{record.NetSuite: d.twins.NetSuite.Merge, record.Salesforce: d.twins.Salesforce.Merge, record.Zendesk: d.twins.Zendesk.Merge}[p]
		if err := unite(companies[p], winner, loser); err != nil {
			return nil, err
		}
		done.did(p, loser, reconcile.Merged, reconcile.Deleted, reconcile.Extra)
		if after, _ := d.stamp(p, winner); after != before { // the winner was saved, too
			done.did(p, winner, changed...)
		}
	}
	return done, nil
}

// stamp is when a platform says that a customer was modified last.
func (d *demo) stamp(p, id string) (string, bool) {
	get := map[string]func(string, string) (map[string]any, bool){record.NetSuite: d.twins.NetSuite.Get, record.Salesforce: d.twins.Salesforce.Get, record.ServiceNow: d.twins.ServiceNow.Get, record.Zendesk: d.twins.Zendesk.Get}[p]
	row, there := get(companies[p], id)
	return fmt.Sprint(row["lastModifiedDate"], row["SystemModstamp"], row["updated_at"], row["sys_updated_on"]), there
}

// found checks that a run found everything that was done, as what it is, and nothing that was not.
func (b behind) found(r reconcile.Report) error {
	left := maps.Clone(b)
	var errs []error
	for _, s := range r.Sets {
		for _, t := range s.Drift {
			for _, x := range t.Samples {
				ref := record.Ref{Platform: s.Platform, Object: s.Object, ID: x.ID}
				if kinds := b[ref]; !slices.Contains(kinds, t.Kind) {
					errs = append(errs, fmt.Errorf("%s is found as %s, want one of %v", ref, t.Kind, kinds))
				}
				delete(left, ref)
			}
		}
	}
	for ref, kinds := range left {
		errs = append(errs, fmt.Errorf("%s is not found: %v", ref, kinds))
	}
	return errors.Join(errs...)
}

func (d *demo) lastRun(ctx context.Context) (reconcile.Report, error) {
	all, err := d.world.Reconcile().List(ctx)
	if err != nil || len(all) == 0 {
		return reconcile.Report{}, errors.Join(err, need(len(all) > 0, "no run"))
	}
	return d.world.Reconcile().Show(ctx, all[0].ID)
}

// reconciled runs until nothing is left but what people were asked about.
func (d *demo) reconciled(ctx context.Context) error {
	for n := 0; ; n++ {
		d.clock.jump(time.Hour)
		r, err := d.world.Reconcile().Begin(ctx, d.person(stewart), reconcile.Wish{Entity: "customer"})
		if err != nil {
			return err
		}
		for r.State == reconcile.Running {
			if r, err = d.world.Reconcile().Show(ctx, r.ID); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
		healed, asked := 0, 0
		for _, s := range r.Sets {
			healed, asked = healed+s.Healed(), asked+s.Excepted()
		}
		if healed == 0 || n == 3 {
			seen := ""
			if asked > 0 {
				seen = fmt.Sprintf("%d are people's to decide", asked)
			}
			d.hold("another run finds nothing to heal", seen, need(healed == 0 && r.State == reconcile.Done, fmt.Sprintf("%s %s: %d healed", r.State, r.Reason, healed)))
			return nil
		}
		if err := d.settled(ctx); err != nil {
			return err
		}
	}
}

// certified verifies the certificate of a run as an auditor does, and alters it.
func (d *demo) certified(ctx context.Context, r reconcile.Report) {
	file, err := d.world.Reconcile().Certificate(ctx, r.ID)
	if err != nil {
		d.hold("the run has a certificate", "", err)
		return
	}
	path, keyPath := filepath.Join(d.dir, "certificate.json"), filepath.Join(d.dir, "certificate-public.pem")
	keys, err := d.world.Reconcile().Keys(ctx)
	if err == nil && len(keys) > 0 {
		err = errors.Join(os.WriteFile(path, file, 0o600), os.WriteFile(keyPath, []byte(keys[0].PEM), 0o600))
	}
	d.printf("  $ sorrel reconcile certificate %s > FILE; sorrel reconcile verify FILE --key PUBLIC\n", r.ID)
	d.hold("its certificate is verified offline", "", errors.Join(err, certificateVerify{File: path, Key: keyPath}.Run(d.screen)))
	public, err := certificate.ReadPublicKeys([]byte(keys[0].PEM))
	passed := 0
	for i := range file {
		altered := bytes.Clone(file)
		altered[i] ^= 1
		if c, err := certificate.Read(altered); err == nil && c.Verify(public...) == nil {
			passed++
		}
	}
	d.hold("whichever byte is altered, it is not", fmt.Sprintf("%d bytes, one after the other", len(file)), errors.Join(err, need(passed == 0, strings.TrimSpace(fmt.Sprint(passed, " alterations pass")))))
}
