// Package kit checks the metadata that an org is set up with.
package kit

import (
	"encoding/xml"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
)

const root = "force-app/main/default"

type field struct {
	FullName   string   `xml:"fullName"`
	Type       string   `xml:"type"`
	ExternalID bool     `xml:"externalId"`
	Unique     bool     `xml:"unique"`
	RefersTo   string   `xml:"referenceTo"`
	Restricted bool     `xml:"valueSet>restricted"`
	Values     []string `xml:"valueSet>valueSetDefinition>value>fullName"`
}

func fields(t *testing.T) map[string]field {
	t.Helper()
	all := map[string]field{}
	for _, folder := range []string{"Account", "Activity", "Case", "Contact", "Opportunity", "Order", "Shipment__c", "Invoice__c", "Contract__c", "Product2", "Pricebook2", "PricebookEntry"} {
		object := folder
		if folder == "Activity" { // the fields of tasks and events
			object = "Task"
		}
		files, err := fs.Glob(os.DirFS(root), "objects/"+folder+"/fields/*.field-meta.xml")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			b, err := os.ReadFile(root + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			var f field
			if err := xml.Unmarshal(b, &f); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !strings.HasSuffix(name, "/"+f.FullName+".field-meta.xml") {
				t.Errorf("%s declares %s", name, f.FullName)
			}
			all[object+"."+f.FullName] = f
		}
	}
	return all
}

// Every custom field that the connector reads is in the kit, may be read and written by the integration user,
// and is unique where it is our external id.
func TestKitHasWhatTheConnectorReads(t *testing.T) {
	t.Parallel()
	kit := fields(t)
	allowed, err := os.ReadFile(root + "/permissionsets/Sorrel_Integration.permissionset-meta.xml")
	if err != nil {
		t.Fatal(err)
	}
	for object, names := range salesforce.DefaultFields() {
		for _, name := range append(names, "Sorrel_Id__c") {
			if !strings.HasSuffix(name, "__c") || strings.Contains(name, ".") {
				continue
			}
			f, ok := kit[object+"."+name]
			if !ok {
				t.Errorf("%s.%s is read but not in the kit", object, name)
			}
			if name == "Sorrel_Id__c" && !(f.ExternalID && f.Unique) {
				t.Errorf("%s.%s must be a unique external id", object, name)
			}
			if !strings.Contains(string(allowed), fmt.Sprintf("<field>%s.%s</field>", object, name)) {
				t.Errorf("%s.%s is not in the permission set", object, name)
			}
		}
	}
}

// The twin takes every picklist value of the kit, so tests run against the org that the kit makes.
func TestTwinKnowsTheKit(t *testing.T) {
	t.Parallel()
	twin := salesforcetwin.New(salesforcetwin.Options{Now: time.Now})
	account, err := twin.Edit("Account", "", map[string]any{"Name": "A"})
	if err != nil {
		t.Fatal(err)
	}
	contact, err := twin.Edit("Contact", "", map[string]any{"LastName": "A"})
	if err != nil {
		t.Fatal(err)
	}
	order, err := twin.Edit("Order", "", map[string]any{"AccountId": account, "EffectiveDate": "2026-11-02", "Status": "Draft"})
	if err != nil {
		t.Fatal(err)
	}
	shipment, err := twin.Edit("Shipment__c", "", map[string]any{"Order__c": order})
	if err != nil {
		t.Fatal(err)
	}
	opportunity, err := twin.Edit("Opportunity", "", map[string]any{"Name": "A", "StageName": "Prospecting", "CloseDate": "2026-11-02"})
	if err != nil {
		t.Fatal(err)
	}
	support, err := twin.Edit("Case", "", map[string]any{"Subject": "A"})
	if err != nil {
		t.Fatal(err)
	}
	task, err := twin.Edit("Task", "", map[string]any{"Subject": "A"})
	if err != nil {
		t.Fatal(err)
	}
	invoice, err := twin.Edit("Invoice__c", "", map[string]any{"Account__c": account})
	if err != nil {
		t.Fatal(err)
	}
	contract, err := twin.Edit("Contract__c", "", map[string]any{"Account__c": account})
	if err != nil {
		t.Fatal(err)
	}
	product, err := twin.Edit("Product2", "", map[string]any{"Name": "A"})
	if err != nil {
		t.Fatal(err)
	}
	book, err := twin.Edit("Pricebook2", "", map[string]any{"Name": "A"})
	if err != nil {
		t.Fatal(err)
	}
	price, err := twin.Edit("PricebookEntry", "", map[string]any{"Product2Id": product, "Pricebook2": map[string]any{"ERP_Price_Level__c": "Base Price"}, "UnitPrice": 1})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{"Pricebook2": book, "PricebookEntry": price, "Product2": product, "Account": account, "Case": support, "Contact": contact, "Opportunity": opportunity, "Task": task, "Order": order, "Shipment__c": shipment, "Invoice__c": invoice, "Contract__c": contract}
	there := map[string]string{"Account": account, "Order": order} // what a lookup may point to
	for name, f := range fields(t) {
		object, _, _ := strings.Cut(name, ".")
		values := map[string][]any{"Picklist": nil, "Date": {"2026-11-02"}, "DateTime": {"2026-11-02T08:15:20.000+0000"}, "Currency": {12.5}, "Number": {12.5}, "Checkbox": {true, false}, "Lookup": {there[f.RefersTo]}}[f.Type]
		for _, v := range f.Values {
			values = append(values, v)
		}
		if f.Type == "Text" || f.Type == "LongTextArea" {
			values = []any{"EUR"}
		}
		if len(values) == 0 {
			t.Errorf("%s: nothing known of type %s", name, f.Type)
		}
		for _, v := range values {
			if _, err := twin.Edit(object, ids[object], map[string]any{f.FullName: v}); err != nil {
				t.Errorf("%s = %v: %v", name, v, err)
			}
		}
		if _, err := twin.Edit(object, ids[object], map[string]any{f.FullName: "Unheard of"}); f.Restricted && err == nil {
			t.Errorf("%s is restricted in the kit, but the twin takes any value", name)
		}
	}
}

// Every object that the connector reads may be used and is on the channel of change events, and the outbound
// messages carry what a notification must say and only fields that the connector reads.
func TestKitTellsOfChanges(t *testing.T) {
	t.Parallel()
	load := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(root + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	allowed := load("permissionsets/Sorrel_Integration.permissionset-meta.xml")
	for object, names := range salesforce.DefaultFields() {
		may := "<object>" + object + "</object>"
		if object == "Task" {
			may = "<name>EditTask</name>" // tasks have no permissions of their own: who may edit the account may edit them
		}
		if object == "PricebookEntry" { // nor have prices: who may edit price books and products may edit them
			may = "<object>Pricebook2</object>"
		}
		if !strings.Contains(allowed, may) {
			t.Errorf("%s is not in the permission set", object)
		}
		event := strings.TrimSuffix(object, "c") + "ChangeEvent"
		member := strings.ReplaceAll(event, "__", "_")
		if said := load("platformEventChannelMembers/Sorrel_chn_" + member + ".platformEventChannelMember-meta.xml"); !strings.Contains(said, "<selectedEntity>"+event+"</selectedEntity>") {
			t.Errorf("%s is not on the channel", event)
		}
		if !slices.Contains([]string{"Account", "Contact", "Opportunity"}, object) {
			continue
		}
		var w struct {
			Fields []string `xml:"outboundMessages>fields"`
		}
		if err := xml.Unmarshal([]byte(load("workflows/"+object+".workflow-meta.xml")), &w); err != nil {
			t.Fatal(err)
		}
		must := []string{"Id", "SystemModstamp", "LastModifiedById", "Sorrel_Id__c"}
		for _, f := range must {
			if !slices.Contains(w.Fields, f) {
				t.Errorf("the message of %s lacks %s", object, f)
			}
		}
		for _, f := range w.Fields {
			if !slices.Contains(must, f) && !slices.Contains(names, f) {
				t.Errorf("the message of %s carries %s, which nobody reads", object, f)
			}
		}
	}
}
