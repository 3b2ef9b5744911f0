package simulation

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/servicenow"
	"sorrel/shared/zendesk"
)

// PlanTwins is the case of a seed in which the platforms are the vendors' twins behind the real connectors, under the
// configuration that is deployed.
func PlanTwins(seed uint64) Case {
	rng := rand.New(rand.NewPCG(seed, 0x7715))
	c := Case{Seed: seed, Profile: Profile{Twins: true, Skew: map[string]time.Duration{}}}
	p := &c.Profile
	switch seed % 4 {
	case 0:
		p.Name = "twins"
	case 1:
		p.Name, p.Faults = "twins, faulty", 30
	case 2:
		p.Name, p.Faults = "twins, stormy", 12
	case 3:
		p.Name, p.Faults = "twins, out", 60
	}
	for _, name := range platforms {
		const most = 2 * time.Minute // signatures are believed for five
		if rng.IntN(2) == 0 {
			p.Skew[name] = time.Duration(rng.Int64N(int64(2*most)) - int64(most)).Round(time.Millisecond)
		}
	}
	at := time.Second
	for i := range 20 + rng.IntN(30) {
		switch n := rng.IntN(100); {
		case n < 35:
			at += time.Duration(rng.IntN(100)) * time.Millisecond
		case n < 80:
			at += time.Duration(rng.IntN(5000)) * time.Millisecond
		default:
			at += time.Duration(rng.IntN(240)) * time.Second
		}
		a := Act{N: i, At: at, On: pick(rng, platforms[:]...), Pick: rng.Uint64(),
			Do: pick(rng, "customer", "contact", "contact", "order", "order", "shipment", "edit", "edit", "edit", "edit", "edit", "edit", "edit", "edit", "burst", "clash", "clash", "case", "case", "finding", "delete", "merge", "restore", "decide", "decide", "handle", "list", "redrive")}
		switch i {
		case 0, 1:
			a.Do = "customer"
		case 2:
			a.Do = "order"
		}
		c.Acts = append(c.Acts, a)
	}
	if p.Name == "twins, out" || p.Name == "twins, stormy" {
		for range 1 + rng.IntN(4) {
			of := pick(rng, append([]string{"store", "queue"}, platforms[:]...)...)
			c.Outages = append(c.Outages, Outage{of, time.Duration(rng.Int64N(int64(at))), time.Duration(1+rng.IntN(400)) * time.Second})
		}
	}
	return c
}

// edit is what a person on a platform does; a record that is made gets an id.
func (v *vendors) edit(name, object, id string, fields map[string]any) {
	var err error
	was := id
	switch name {
	case record.NetSuite:
		id, err = v.twins.NetSuite.Edit(object, id, fields)
	case record.Salesforce:
		id, err = v.twins.Salesforce.Edit(object, id, fields)
	case record.Zendesk:
		id, err = v.twins.Zendesk.Edit(object, id, fields)
	case record.ServiceNow:
		id, err = v.twins.ServiceNow.Edit(object, id, fields)
	}
	if v.did(name, "saves", fmt.Sprintf("%s %s %s: %v", object, was, id, fields), err) {
		v.see(record.Ref{Platform: name, Object: object, ID: id})
	}
}

// did notes what somebody does, and reports whether the platform lets them: a form says no to people, too.
func (v *vendors) did(name, what, to string, err error) bool {
	v.w.note("somebody on "+name, what, to, none)
	if err != nil {
		v.w.note(name, "refuses", err.Error(), none)
	}
	return err == nil
}

// parties are the objects whose records people delete and merge.
func parties(name string) []string {
	return map[string][]string{record.NetSuite: {"customer", "contact"}, record.Salesforce: {"Account", "Contact"}, record.Zendesk: {"organization", "user"},
		record.ServiceNow: {"customer_account", "customer_contact"}}[name]
}

// cases is the object of support cases.
func cases(name string) string {
	return map[string]string{record.Salesforce: "Case", record.Zendesk: zendesk.Ticket, record.ServiceNow: servicenow.Case}[name]
}

// remove deletes a record, or merges it into another.
func (v *vendors) remove(name, object, id, into string) {
	v.deleting = &record.Ref{Platform: name, Object: object, ID: id}
	if _, linked, err := v.w.god.Lookup(context.Background(), *v.deleting); err == nil && !linked {
		v.deleted[*v.deleting] = "before its creation was confirmed" // to whoever hears of the end of something unknown it means nothing
	}
	defer func() { v.deleting = nil }()
	var err error
	switch {
	case name == record.NetSuite && into == "":
		err = v.twins.NetSuite.Delete(object, id)
	case name == record.NetSuite:
		err = v.twins.NetSuite.Merge(object, into, id)
	case name == record.Salesforce && into == "":
		err = v.twins.Salesforce.Delete(object, id)
	case name == record.Salesforce:
		err = v.twins.Salesforce.Merge(object, into, id)
	case name == record.Zendesk && into == "":
		err = v.twins.Zendesk.Delete(object, id)
	case name == record.Zendesk:
		err = v.twins.Zendesk.Merge(object, into, id)
	default:
		err = v.twins.ServiceNow.Delete(object, id)
	}
	if into != "" { // what was empty there may be the other's now, which NetSuite tells nobody
		v.grown[record.Ref{Platform: name, Object: object, ID: into}] = true
	}
	if !v.did(name, "removes", fmt.Sprintf("%s %s into %q", object, id, into), err) {
		delete(v.deleted, *v.deleting)
	}
}

// living lists the ids of an object.
func (v *vendors) living(name, object string) (ids []string) {
	var all []map[string]any
	key := "id"
	switch name {
	case record.NetSuite:
		all = v.twins.NetSuite.All(object)
	case record.Salesforce:
		all, key = v.twins.Salesforce.All(object), "Id"
	case record.Zendesk:
		all = v.twins.Zendesk.All(object)
	case record.ServiceNow:
		all, key = v.twins.ServiceNow.All(object), "sys_id"
	}
	for _, r := range all {
		id := fmt.Sprint(r[key])
		v.see(record.Ref{Platform: name, Object: object, ID: id})
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func ofID(id string) map[string]any { return map[string]any{"id": id} }

func items(all ...any) map[string]any { return map[string]any{"items": all} }

// act is what somebody does now.
func (v *vendors) act(a Act, rng *rand.Rand) {
	w := v.w
	one := func(name, object string) string {
		ids := v.living(name, object)
		if len(ids) == 0 {
			return ""
		}
		return pick(rng, ids...)
	}
	switch a.Do {
	case "customer":
		name := fmt.Sprintf("%s %d", pick(rng, "Ernst Handel", "Bon app'", "Chop-suey Chinese"), a.N)
		if a.On == record.NetSuite || rng.IntN(2) == 0 {
			v.edit(record.NetSuite, "customer", "", map[string]any{"entityId": fmt.Sprint("C-", a.N), "companyName": name, "phone": fmt.Sprint("+43 316 ", a.N), "addressBook": items(map[string]any{
				"label": "Main", "defaultBilling": true, "defaultShipping": true, "addressBookAddress": map[string]any{"addr1": "Kirchgasse 6", "city": "Graz", "zip": "8010", "country": ofID("AT")}})})
			return
		}
		v.edit(record.Salesforce, "Account", "", map[string]any{"Name": name, "Phone": fmt.Sprint("+43 316 ", a.N), "Industry": "Retail", "BillingCity": "Graz"})
	case "contact":
		if account := one(record.Salesforce, "Account"); account != "" {
			v.edit(record.Salesforce, "Contact", "", map[string]any{"FirstName": pick(rng, "Roland", "Laurence"), "LastName": fmt.Sprint("Mendel ", a.N), "Email": fmt.Sprintf("m%d@ernst.test", a.N), "AccountId": account})
		}
	case "order":
		if customer := one(record.NetSuite, "customer"); customer != "" {
			v.edit(record.NetSuite, "salesOrder", "", map[string]any{"tranId": fmt.Sprint("SO-", a.N), "tranDate": "2026-11-02", "entity": ofID(customer), "orderStatus": ofID("B"),
				"item": items(map[string]any{"item": map[string]any{"refName": "Tofu"}, "quantity": 1 + rng.IntN(9), "rate": 23.25})})
		}
	case "shipment":
		if order := one(record.NetSuite, "salesOrder"); order != "" {
			v.edit(record.NetSuite, "itemFulfillment", "", map[string]any{"tranId": fmt.Sprint("IF-", a.N), "createdFrom": ofID(order), "tranDate": "2026-11-03", "shipStatus": ofID("A"),
				"item": items(map[string]any{"item": map[string]any{"refName": "Tofu"}, "quantity": 1, "orderLine": 1})})
		}
	case "case":
		if a.On == record.ServiceNow {
			v.edit(a.On, servicenow.Case, "", map[string]any{"short_description": fmt.Sprint("Pump alarm ", a.N), "state": pick(rng, "1", "10"), "priority": pick(rng, "1", "3"), "account": one(a.On, servicenow.Account)})
			return
		}
		opened := map[string]any{"subject": fmt.Sprint("Pump alarm ", a.N), "status": pick(rng, "new", "open"), "priority": pick(rng, "urgent", "low")}
		if id := one(record.Zendesk, zendesk.Organization); id != "" && rng.IntN(4) > 0 {
			opened["organization_id"] = id
		}
		v.edit(record.Zendesk, zendesk.Ticket, "", opened)
	case "finding":
		v.finds(rng)
	case "edit":
		v.change(a.On, rng)
	case "burst": // several people at once
		for _, name := range platforms {
			v.change(name, rng)
		}
	case "clash": // one field of one customer everywhere at one moment
		ids := v.living(record.NetSuite, "customer")
		if len(ids) == 0 {
			return
		}
		copies := w.state(ledger.Mint("customer", record.Ref{Platform: record.NetSuite, Object: "customer", ID: pick(rng, ids...)})).Record
		for _, name := range platforms {
			at := copies.Views[name]
			if !at.Exists() {
				continue
			}
			number := fmt.Sprint("+43 1 ", rng.IntN(4))
			v.edit(name, at.Object, at.ID, map[string]map[string]any{record.NetSuite: {"phone": number}, record.Salesforce: {"Phone": number},
				record.Zendesk: {"organization_fields": map[string]any{"erp_phone": number}}, record.ServiceNow: {"phone": number}}[name])
		}
	case "delete":
		object := pick(rng, parties(a.On)...)
		if id := one(a.On, object); id != "" {
			v.remove(a.On, object, id, "")
		}
	case "merge":
		object := pick(rng, parties(a.On)...)
		if ids := v.living(a.On, object); len(ids) > 1 && a.On != record.ServiceNow { // which has no merge
			rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			v.remove(a.On, object, ids[0], ids[1])
		}
	case "restore": // only Salesforce has a recycle bin
		for _, ref := range v.order {
			if v.deleted[ref] != "" && ref.Platform == record.Salesforce {
				delete(v.deleted, ref)
				v.did(ref.Platform, "restores", ref.String(), v.twins.Salesforce.Undelete(ref.Object, ref.ID))
				return
			}
		}
	case "decide", "handle":
		v.stewards(a.Do, rng)
	case "list":
		w.list(a.On)
	case "redrive":
		w.redrive()
	default:
		w.wrong("nobody knows how to %s", a.Do)
	}
}

// change is somebody's change of something that there is on a platform.
func (v *vendors) change(name string, rng *rand.Rand) {
	text := fmt.Sprint(pick(rng, "a", "b", " c", "as agreed"), " ", rng.IntN(3))
	phone := fmt.Sprint("+43 316 ", rng.IntN(5))
	fields := map[string]map[string][]map[string]any{
		record.NetSuite: {
			"customer":        {{"phone": phone}, {"companyName": "Ernst " + text}, {"creditLimit": 1000 * (1 + rng.IntN(5))}, {"custentity_segment": pick(rng, "small", "midmarket")}, {"isInactive": rng.IntN(2) == 0}},
			"contact":         {{"phone": phone}, {"title": text}, {"mobilePhone": phone}, {"lastName": "Wilson " + text}},
			"salesOrder":      {{"orderStatus": ofID(pick(rng, "B", "D", "F", "G"))}, {"memo": text}, {"otherRefNum": text}, {"shipDate": fmt.Sprintf("2026-11-1%d", rng.IntN(10))}},
			"itemFulfillment": {{"shipStatus": ofID(pick(rng, "A", "B", "C"))}, {"shipCarrier": text}},
		},
		record.Salesforce: {
			"Account":     {{"Phone": phone}, {"Industry": pick(rng, "Retail", "Energy")}, {"Account_Manager__c": text}, {"Name": "Ernst " + text}, {"BillingCity": pick(rng, "Wien", "Linz")}, {"ERP_Credit_Limit__c": 5}, {"Website": "https://ernst.test"}, {"Support_Tier__c": pick(rng, "Premium", "VIP")}},
			"Contact":     {{"Phone": phone}, {"Title": text}, {"Email": fmt.Sprintf("x%d@ernst.test", rng.IntN(1000))}, {"LastName": "Wilson " + text}, {"Active__c": rng.IntN(2) == 0}},
			"Order":       {{"ERP_Status__c": pick(rng, "Billed", "Cancelled")}, {"Description": text}, {"PoNumber": text}},
			"Shipment__c": {{"Carrier__c": text}, {"Status__c": pick(rng, "Picked", "Shipped")}},
		},
		record.Zendesk: {
			"organization":           {{"notes": text}, {"organization_fields": map[string]any{"erp_phone": phone}}, {"organization_fields": map[string]any{"support_tier": pick(rng, "tier_vip", "tier_standard")}}, {"name": "Handel " + text}},
			"user":                   {{"phone": phone}, {"user_fields": map[string]any{"job_title": text}}, {"name": "Roland " + text}, {"email": fmt.Sprintf("z%d@ernst.test", rng.IntN(1000))}},
			"custom_object/order":    {{"custom_object_fields": map[string]any{"status": pick(rng, "billed", "cancelled")}}, {"custom_object_fields": map[string]any{"po_number": text}}},
			"custom_object/shipment": {{"custom_object_fields": map[string]any{"status": pick(rng, "packed", "shipped")}}},
		},
		record.ServiceNow: {
			"customer_account": {{"phone": phone}, {"u_support_tier": pick(rng, "standard", "premium", "vip")}, {"notes": text}, {"name": "Chop " + text}, {"u_credit_limit": "99"}, {"u_segment": "enterprise"}},
			"customer_contact": {{"phone": phone}, {"title": text}, {"mobile_phone": phone}, {"last_name": "Wilson " + text}, {"email": fmt.Sprintf("s%d@ernst.test", rng.IntN(1000))}},
		},
	}[name]
	if object := cases(name); object != "" && len(v.living(name, object)) > 0 {
		fields[object] = map[string][]map[string]any{
			record.Salesforce: {{"Support_Status__c": pick(rng, "Open", "Closed")}, {"Status": pick(rng, "Escalated", "Closed")}, {"ERP_Context__c": text}},
			record.Zendesk: {{"status": pick(rng, "open", "pending", "hold", "solved", "closed")}, {"priority": pick(rng, "high", "urgent")}, {"subject": "Alarm " + text},
				{"ticket_fields": map[string]any{"sla_breached": true}}, {"ticket_fields": map[string]any{"erp_context": text}}},
			record.ServiceNow: {{"state": pick(rng, "10", "18", "6", "3")}, {"priority": pick(rng, "1", "2")}, {"short_description": "Alarm " + text},
				{"u_sla_breached": "true"}, {"u_crm_context": text}},
		}[name]
	}
	var objects []string
	for _, object := range slices.Sorted(maps.Keys(fields)) {
		if len(v.living(name, object)) > 0 {
			objects = append(objects, object)
		}
	}
	if len(objects) == 0 {
		return
	}
	object := pick(rng, objects...)
	v.edit(name, object, pick(rng, v.living(name, object)...), pick(rng, fields[object]...))
}

// finds is what a workflow does: it says something about a case.
func (v *vendors) finds(rng *rand.Rand) {
	all := slices.DeleteFunc(v.records(), func(id record.ID) bool { return id.Entity() != "case" })
	if len(all) == 0 {
		return
	}
	id, who := pick(rng, all...), policy.Person{Name: "frank@northwind.example"}
	for _, set := range [][2]string{{"escalation", pick(rng, "escalated", "handled")}, {"erpContext", fmt.Sprint(rng.IntN(3), " open invoices")}} {
		field, value := set[0], set[1]
		v.w.steward(time.Duration(rng.IntN(3000))*time.Millisecond, "assign", fmt.Sprint(id, " ", field), func(ctx context.Context, f *steward.Flow) error {
			_, err := f.Assign(ctx, who, id, field, record.TextValue(value))
			return err
		})
	}
}

// stewards act a while after they have looked: what they decide about may have changed meanwhile.
func (v *vendors) stewards(what string, rng *rand.Rand) {
	who := policy.Person{Name: pick(rng, "fiona@northwind.example", "frank@northwind.example", "sarah@northwind.example", "stewart@northwind.example")}
	after := time.Duration(rng.IntN(5000)) * time.Millisecond
	choose := v.w.handling
	if what == "decide" {
		choose = v.w.decision
	}
	if about, do := choose(rng, who); do != nil {
		v.w.steward(after, what, about, do)
	}
}

// records are all records that there are, the merged ones included.
func (v *vendors) records() []record.ID {
	ids := map[record.ID]bool{}
	for _, ref := range v.order {
		m, mapped := v.w.set.ByObject(ref.Platform, ref.Object)
		if !mapped {
			continue
		}
		if id, linked, err := v.w.god.Lookup(context.Background(), ref); err == nil && linked {
			ids[id] = true
		}
		if id := ledger.Mint(m.Entity, ref); v.w.state(id).Exists() {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// check holds the end of a history to what must be true of it: each platform shows what is believed of it, and that is what
// policy says; whatever we made there is one record's, and no record has two.
func (v *vendors) check() {
	w := v.w
	carried := map[string]record.Ref{}
	for _, name := range platforms {
		for _, object := range w.objects(name) {
			for _, n := range v.all(name, object) {
				if n.Gone || n.External == "" {
					continue
				}
				key := name + " " + object + " " + n.External
				if first, twice := carried[key]; twice && first != n.Ref {
					w.wrong("duplicate: %s and %s are both %s", first, n.Ref, n.External)
				}
				carried[key] = n.Ref
			}
		}
	}
	shown := map[record.Ref]record.ID{}
	for _, id := range v.records() {
		s := w.state(id)
		if s.Record.Into != "" || !s.Exists() {
			continue
		}
		for _, name := range w.set.PlatformsOf(id.Entity()) {
			v.same(s, name, shown, false)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(carried)) {
		if ref := carried[key]; shown[ref] == "" && !w.told[ref.String()] {
			w.wrong("orphan: %s was made by us, and no record has it", key)
		}
	}
}

// pushed holds the platforms that tell of every change to that: where nothing fails, all is known before any listing.
func (v *vendors) pushed() {
	for _, id := range v.records() {
		s := v.w.state(id)
		for _, name := range v.w.set.PlatformsOf(id.Entity()) {
			if name != record.Zendesk && s.Record.Into == "" && s.Exists() {
				v.same(s, name, map[record.Ref]record.ID{}, true)
			}
		}
	}
}

// untold reports whether a native record was deleted and Sorrel never heard of it, or before it knew that record, whose
// creation was not confirmed yet: NetSuite and ServiceNow tell once, and list no deletions. What is due for it stays due, and
// people are told that it cannot be found.
func (v *vendors) untold(ref record.Ref) bool {
	return (ref.Platform == record.NetSuite || ref.Platform == record.ServiceNow) && v.deleted[ref] != "" && !v.w.accepted[v.deleted[ref]]
}

// same holds one platform's copy of a record to what policy says. pushed says that nothing was listed yet: what platforms
// make of other values and do by themselves, such as moving the contacts of a customer that is merged, they do not push,
// and which of two came last, somebody's change and a write of ours that answers no version, a listing has to tell.
func (v *vendors) same(s ledger.State, name string, shown map[record.Ref]record.ID, pushed bool) {
	w, r := v.w, s.Record
	rules, as := w.set.Rules(r.ID.Entity()), w.set.On(r.ID.Entity())(name)
	view := r.Views[name]
	if v.untold(view.Ref) {
		shown[view.Ref] = r.ID
		return
	}
	if patch := record.Project(r, rules, name, as); !patch.Empty() && !w.lacks(s, name) {
		w.wrong("forgotten: %s is still to be told %+v of %s", name, patch, r.ID)
	}
	if !view.Exists() {
		return
	}
	shown[view.Ref] = r.ID
	n, err := v.god[name].Read(context.Background(), view.Ref)
	if gone(n, err) {
		w.wrong("ghost: %s of %s is believed to exist", view.Ref, r.ID)
		return
	}
	if err != nil {
		w.wrong("cannot read %s: %v", view.Ref, err)
		return
	}
	m, _ := w.set.ByEntity(r.ID.Entity(), name)
	said, refs, err := m.Observe(n)
	if err != nil {
		w.wrong("cannot translate %s: %v", view.Ref, err)
		return
	}
	for field, ref := range refs {
		if id, linked, err := w.god.Lookup(context.Background(), ref); err == nil && linked {
			said.Fields[field] = w.followed(record.TextValue(string(id)))
		}
	}
	for _, field := range slices.Sorted(maps.Keys(said.Fields)) {
		believed, _ := view.Holds(field)
		is, want := said.Fields[field], w.followed(believed)
		if is == want || is.IsAbsent() || want.IsAbsent() && is.IsNull() || as(field, is) == as(field, want) {
			continue
		}
		_, refers := refs[field]
		_, wrote := view.Wrote[field]
		if pushed && (refers || wrote || want.IsAbsent() || v.grown[view.Ref]) {
			continue
		}
		w.wrong("differs: %s of %s shows %s = %v, believed is %v (said %+v, wrote %+v)", view.Ref, r.ID, field, is, believed, view.Said[field], view.Wrote[field])
	}
}
