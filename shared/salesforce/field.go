package salesforce

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Kind of a field, where its text alone does not say it.
type Kind uint8

const (
	Text Kind = iota
	Number
	Bool
	Date // a day without a time
	Time
)

// TimeLayout is how REST says a date-time.
const TimeLayout = "2006-01-02T15:04:05.000-0700"

// knownKinds are the standard fields of every object, the usual ones of the objects here, and those of the
// metadata kit in infra/salesforce.
func knownKinds(object string) map[string]Kind {
	m := map[string]Kind{
		"CreatedDate": Time, "LastModifiedDate": Time, "SystemModstamp": Time, "LastActivityDate": Date,
		"LastViewedDate": Time, "LastReferencedDate": Time, "IsDeleted": Bool,
	}
	add := func(k Kind, names string) {
		for _, n := range strings.Fields(names) {
			m[n] = k
		}
	}
	switch object {
	case "Account":
		add(Number, "AnnualRevenue NumberOfEmployees BillingLatitude BillingLongitude ShippingLatitude ShippingLongitude ERP_Credit_Limit__c ERP_Balance__c ERP_Overdue_Balance__c")
		add(Bool, "ERP_Active__c")
	case "Order":
		add(Number, "TotalAmount ERP_Total__c ERP_Subtotal__c ERP_Tax__c ERP_Freight__c")
		add(Date, "EffectiveDate EndDate PoDate ERP_Requested_Ship_Date__c")
		add(Time, "ActivatedDate")
		add(Bool, "IsReductionOrder")
	case "Shipment__c":
		add(Date, "Shipped_On__c")
	case "Contract__c":
		add(Date, "Starts_On__c Ends_On__c")
	case "Invoice__c":
		add(Number, "Total__c Amount_Due__c")
		add(Date, "Issued_On__c Due_On__c Paid_On__c")
	case "PricebookEntry":
		add(Number, "UnitPrice")
		add(Bool, "IsActive IsArchived UseStandardPrice")
	case "Product2":
		add(Number, "ERP_List_Price__c")
		add(Bool, "IsActive IsArchived")
	case "Contact":
		add(Date, "Birthdate")
		add(Time, "EmailBouncedDate")
		add(Bool, "HasOptedOutOfEmail DoNotCall IsEmailBounced Active__c")
	case "Opportunity":
		add(Number, "Amount Probability")
		add(Date, "CloseDate")
		add(Bool, "IsClosed IsWon HasOpportunityLineItem")
	case "Task":
		add(Date, "ActivityDate")
		add(Bool, "IsClosed IsHighPriority IsArchived IsRecurrence IsReminderSet")
		add(Time, "CompletedDateTime ReminderDateTime")
	case "Case":
		add(Time, "ClosedDate Support_Opened_On__c")
		add(Bool, "IsClosed IsEscalated SLA_Breached__c")
	}
	return m
}

// parseTime reads a date-time as REST, events and messages say it; whole seconds, UTC.
func parseTime(a any) (time.Time, bool) {
	switch v := a.(type) {
	case string:
		for _, layout := range []string{TimeLayout, time.RFC3339Nano} {
			if t, err := time.Parse(layout, v); err == nil {
				return t.UTC().Truncate(Resolution), true
			}
		}
	case json.Number:
		if ms, err := v.Int64(); err == nil && ms > 0 && ms < 1<<47 {
			return time.UnixMilli(ms).UTC().Truncate(Resolution), true
		}
	}
	return time.Time{}, false
}

// native turns one value of an event (JSON) or a message (text) into REST's form. A value that is not of its
// kind stays as it came, for the mapping to refuse by name.
func native(k Kind, a any) any {
	s, text := a.(string)
	switch k {
	case Number:
		if _, err := strconv.ParseFloat(s, 64); text && err == nil && json.Valid([]byte(s)) {
			return json.Number(s)
		}
	case Bool:
		if text && (s == "true" || s == "false") {
			return s == "true"
		}
	case Time:
		if t, ok := parseTime(a); ok {
			return t.Format(TimeLayout)
		}
	case Date:
		if t, ok := parseTime(a); ok {
			return t.Format(time.DateOnly)
		}
	}
	return a
}

// stripAttributes removes what REST adds to every record.
func stripAttributes(m map[string]any) {
	delete(m, "attributes")
	for _, v := range m {
		if parent, ok := v.(map[string]any); ok {
			stripAttributes(parent)
		}
	}
}

// canonicalID returns the 18-character form of a record id, which is safe where case is ignored: every five
// characters give one that says which of them are capitals. An 18-character id stays as it is.
func canonicalID(id string) (string, bool) {
	if len(id) != 15 && len(id) != 18 {
		return "", false
	}
	for i := range len(id) {
		if c := id[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return "", false
		}
	}
	if len(id) == 18 {
		return id, true
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
	full := []byte(id)
	for chunk := range 3 {
		bits := 0
		for i := range 5 {
			if c := id[chunk*5+i]; c >= 'A' && c <= 'Z' {
				bits |= 1 << i
			}
		}
		full = append(full, digits[bits])
	}
	return string(full), true
}
