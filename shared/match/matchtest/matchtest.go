// Package matchtest makes customers of four platforms of which it is known who is who, and scores a match.Report
// against that truth. It is for tests and for `sorrel bench link`.
package matchtest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"

	"sorrel/shared/match"
	"sorrel/shared/record"
)

// Truth says which customer each native record is. Records with the same number are the same customer.
type Truth map[record.Ref]int

// Rules are the honest rules for the customers that Generate makes: what one would write for real ones. Names alone,
// shared domains and switchboards only ask. (Were name+city strong, precision would fall from 0.9993 to 0.996 and recall not rise.)
func Rules() match.Rules {
	country := "billingAddress.country"
	name := match.Part{Field: "name", Normaliser: "company"}
	phone := match.Part{Field: "phone", Normaliser: "phone", Country: country}
	website := match.Part{Field: "website", Normaliser: "domain"}
	land := match.Part{Field: country, Normaliser: "country"}
	return match.Rules{
		{Name: "tax-id", Strong: true, Parts: []match.Part{{Field: "taxId", Normaliser: "tax-id", Country: country}}},
		{Name: "number", Strong: true, Parts: []match.Part{{Field: "number", Normaliser: "exact"}}},
		{Name: "name+domain", Strong: true, Parts: []match.Part{name, website, land}},
		{Name: "name+phone", Strong: true, Parts: []match.Part{name, phone}},
		{Name: "name+postcode", Strong: true, Parts: []match.Part{name, {Field: "billingAddress.postalCode", Normaliser: "postcode", Country: country}, land}},
		{Name: "name+city", Parts: []match.Part{name, {Field: "billingAddress.city", Normaliser: "text"}, land}},
		{Name: "domain", Parts: []match.Part{website}},
		{Name: "phone", Parts: []match.Part{phone}},
	}
}

// place is one of the eight countries of the generated world.
type place struct {
	iso     string
	names   []string
	forms   []string // how one and the same legal form is written
	cities  []string
	code    string
	trunk   string
	area    string
	digits  int      // of the phone number after the area
	tax     []string // ways to write a tax number of 9 digits
	postals int      // digits of a postcode
}

func places() []place {
	return []place{
		{"DE", []string{"DE", "Germany", "Deutschland"}, []string{"GmbH", "GMBH", "G.m.b.H.", "Gesellschaft mit beschränkter Haftung"}, []string{"Hamburg", "Köln", "München", "Leipzig"}, "49", "0", "40", 7, []string{"DE%s", "DE %s", "%s", "de%s"}, 5},
		{"GB", []string{"GB", "United Kingdom", "UK"}, []string{"Ltd", "Ltd.", "Limited", "LTD"}, []string{"London", "Leeds", "St. Albans", "Bristol"}, "44", "0", "20", 8, []string{"GB%s", "GB %s", "%s", "gb-%s"}, 5},
		{"FR", []string{"FR", "France", "FRA"}, []string{"SARL", "S.A.R.L.", "Sarl"}, []string{"Paris", "Saint-Étienne", "Lyon", "Orléans"}, "33", "0", "1", 8, []string{"FR12%s", "FR 12 %s", "12%s"}, 5},
		{"US", []string{"US", "United States", "USA"}, []string{"Inc", "Inc.", "Incorporated", "INC"}, []string{"Boston", "Austin", "St. Paul", "Denver"}, "1", "", "617", 7, []string{"%s", "US%s", "US-%s"}, 5},
		{"IT", []string{"IT", "Italy", "Italia"}, []string{"S.p.A.", "SpA", "SPA"}, []string{"Milano", "Torino", "Forlì", "Roma"}, "39", "", "02", 7, []string{"IT01%s", "IT 01%s", "01%s"}, 5},
		{"NL", []string{"NL", "Netherlands", "Nederland"}, []string{"B.V.", "BV", "bv"}, []string{"Utrecht", "Den Haag", "Breda", "Delft"}, "31", "0", "20", 7, []string{"NL%sB01", "NL.%s.B01", "%sB01"}, 4},
		{"CH", []string{"CH", "Switzerland", "Schweiz"}, []string{"AG", "A.G.", "SA"}, []string{"Zürich", "Genève", "Basel", "Bern"}, "41", "0", "44", 7, []string{"CHE%s", "CHE-%s MWST", "CHE-%s TVA", "CHE%sIVA"}, 4},
		{"ES", []string{"ES", "Spain", "España"}, []string{"S.L.", "SL", "S.L"}, []string{"Madrid", "Málaga", "Bilbao", "Gijón"}, "34", "", "91", 7, []string{"ESB%s", "B%s", "ES-B%s"}, 5},
	}
}

const (
	families = "Müller Becker Søren Dupont Rossi García Jansen Smith O'Neil Novak Keller Moreau Bianchi López Visser Brown Fischer Laurent Ricci Torres Bakker Taylor Weber Girard Conti Vega Mulder Evans " +
		"Schäfer Lefèvre Greco Ramos Dekker Walker Kruger Mercier Bruno Castro Smit Hughes Brandt Blanc Gallo Ortega Kok Foster Lindström Fabre Costa Molina Prins Harper Østergaard Roux Fontana Núñez Vos Palmer Huber Benoit"
	trades = "Logistics Foods Machinery Textiles Optics Plastics Software Chemicals Furniture Instruments Packaging Energy Printing Bearings Ceramics Robotics Coatings Seafood Lighting Marine Paper Glass Wines Timber " +
		"Metals Tools Medical Freight Electronics Garden Pumps Valves Motors Cables Toys Books Travel Cheese Bakery Brewing"
)

// customer is the truth about one company.
type customer struct {
	place
	family, trade      string
	city, postcode     string
	tax, phone, domain string
	number             string
}

// rng gives each customer and each of its records an own stream of chance, so that they can be made one by one.
func rng(seed uint64, i, salt int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(i)<<8|uint64(salt)))
}

type world struct {
	seed     uint64
	places   []place
	families []string
	trades   []string
}

func number(r *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		d := r.IntN(10)
		if i == 0 {
			d = 1 + r.IntN(9)
		}
		b.WriteByte(byte('0' + d))
	}
	return b.String()
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// company makes customer i. Some resemble their predecessor: 2 % have its name, in another place; 3 % are a sister company
// with its family name, country, domain and switchboard; 0.2 % are in its VAT group and share the tax number as well.
func (w *world) company(i int) customer {
	r := rng(w.seed, i, 0)
	kind := r.Float64()
	c := customer{place: pick(r, w.places), family: pick(r, w.families) + pick(r, []string{"", " & Söhne", " and Partners", " Brothers", " " + pick(r, w.families)}), trade: pick(r, w.trades)}
	c.city = pick(r, c.cities)
	c.postcode = number(r, c.postals)
	digits := 9
	if c.iso == "ES" {
		digits = 8
	}
	c.tax, c.phone = number(r, digits), number(r, c.digits)
	c.domain = fmt.Sprintf("%s%d.%s", strings.ToLower(c.trade), i, map[string]string{"GB": "co.uk", "US": "com"}[c.iso])
	if strings.HasSuffix(c.domain, ".") {
		c.domain += strings.ToLower(c.iso)
	}
	if r.Float64() < 0.05 {
		c.domain = pick(r, []string{"gmail.com", "facebook.com", "outlook." + strings.ToLower(c.iso)}) // small firms without a domain of their own
	}
	c.number = fmt.Sprintf("CUST-%06d", i)
	if i > 0 && kind < 0.052 {
		before := w.company(i - 1)
		switch {
		case kind < 0.02:
			c.family, c.trade = before.family, before.trade
		default:
			c.place, c.family, c.domain, c.phone = before.place, before.family, before.domain, before.phone
			c.city, c.postcode = before.city, before.postcode
			if c.trade == before.trade {
				c.trade += " Services"
			}
			if kind >= 0.05 {
				c.tax = before.tax
			} else {
				c.tax = number(r, len(before.tax))
			}
		}
	}
	return c
}

// habits is what a platform's users fill in: the share of records with the field.
type habits struct {
	platform, object                           string
	tax, phone, website, city, postcode, erpNo float64
}

func platforms() []habits {
	return []habits{
		{record.NetSuite, "customer", 0.93, 0.9, 0.6, 1, 0.98, 1},
		{record.Salesforce, "Account", 0.6, 0.85, 0.85, 0.95, 0.9, 0.3},
		{record.Zendesk, "organization", 0.5, 0.6, 0, 0.8, 0, 0.4},
		{record.ServiceNow, "customer_account", 0.6, 0.7, 0.6, 0.9, 0.85, 0.3},
	}
}

// onPlatforms says on which platforms the customers of a cohort of 16 are: six tenths of each platform's are on all
// four, three tenths on two, one tenth on one.
func onPlatforms(i int) uint {
	masks := []uint{15, 15, 15, 15, 15, 15, 3, 12, 5, 10, 9, 6, 1, 2, 4, 8}
	return masks[i%len(masks)]
}

// Generate makes n native customers on each of four platforms, with formatting of all kinds, typing errors (3 % of names, 1 %
// of other fields), missing fields, placeholders, 1 % duplicates within a platform, and different companies that look
// alike. The same seed and n make the same. Items are made while they are read, in the order of the customers.
func Generate(seed uint64, n int) (iter.Seq2[match.Item, error], Truth) {
	w := &world{seed, places(), strings.Fields(families), strings.Fields(trades)}
	truth := make(Truth, 4*n)
	for item, i := range w.items(n, false) {
		truth[item.Ref] = i
	}
	return func(yield func(match.Item, error) bool) {
		for item := range w.items(n, true) {
			if !yield(item, nil) {
				return
			}
		}
	}, truth
}

// items yields each record with its customer's number.
func (w *world) items(n int, fields bool) iter.Seq2[match.Item, int] {
	return func(yield func(match.Item, int) bool) {
		made := make([]int, 4)
		for i := 0; made[0] < n || made[1] < n || made[2] < n || made[3] < n; i++ {
			var c customer
			if fields {
				c = w.company(i)
			}
			for p, h := range platforms() {
				if onPlatforms(i)&(1<<p) == 0 {
					continue
				}
				r := rng(w.seed, i, 1+p)
				copies := 1
				if r.Float64() < 0.01 {
					copies = 2
				}
				for range copies {
					if made[p] == n {
						break
					}
					made[p]++
					item := match.Item{Ref: record.Ref{Platform: h.platform, Object: h.object, ID: nativeID(w.seed, p, made[p])}}
					if fields {
						item.Fields = w.typed(r, c, h)
					}
					if !yield(item, i) {
						return
					}
				}
			}
		}
	}
}

// nativeID looks like the platform's own ids and tells nothing about the customer: multiplication by an odd number permutes.
func nativeID(seed uint64, platform, k int) string {
	x := (uint64(k)*0x9e3779b97f4a7c15 ^ seed) & (1<<48 - 1)
	return []string{fmt.Sprintf("%d", x), fmt.Sprintf("001%015X", x), fmt.Sprintf("%d", x), fmt.Sprintf("%032x", x)}[platform]
}

// typed is customer c as somebody entered it.
func (w *world) typed(r *rand.Rand, c customer, h habits) map[string]record.Value {
	f := map[string]record.Value{}
	set := func(field string, share float64, v string) {
		if r.Float64() < share {
			f[field] = record.TextValue(v)
		}
	}
	set("name", 1, w.name(r, c))
	set("billingAddress.country", 0.97, pick(r, c.names))
	set("billingAddress.city", h.city, pick(r, []string{c.city, c.city, strings.ToUpper(c.city), plain(c.city)}))
	postcode := slip(r, 0.01, c.postcode)
	set("billingAddress.postalCode", h.postcode, pick(r, []string{postcode, postcode, postcode + " ", c.iso + "-" + postcode}))
	tax := fmt.Sprintf(pick(r, c.place.tax), grouped(r, slip(r, 0.01, c.tax)))
	if r.Float64() < 0.005 {
		tax = pick(r, []string{"n/a", "0", "000000000", "unknown"})
	}
	set("taxId", h.tax, tax)
	phone := w.phone(r, c)
	if r.Float64() < 0.01 {
		phone = pick(r, []string{"000000", "-", "+49 40 0000000", "123"})
	}
	set("phone", h.phone, phone)
	set("website", h.website, pick(r, []string{c.domain, "https://www." + c.domain + "/", "http://" + c.domain, "WWW." + strings.ToUpper(c.domain), "https://shop." + c.domain + "/de?x=1"}))
	set("number", h.erpNo, c.number)
	return f
}

func (w *world) name(r *rand.Rand, c customer) string {
	family := c.family
	if r.Float64() < 0.2 {
		family = strings.NewReplacer(" & Söhne", " und Söhne", " and Partners", " & Partners").Replace(family)
	}
	name := slip(r, 0.03, family+" "+c.trade)
	if r.Float64() < 0.8 {
		name += pick(r, []string{" ", ", "}) + pick(r, c.forms)
	}
	switch v := r.Float64(); {
	case v < 0.15:
		name = strings.ToUpper(name)
	case v < 0.25:
		name = plain(name)
	case v < 0.28:
		name = "The " + name
	case v < 0.35:
		name = "  " + strings.ReplaceAll(name, " ", "  ")
	}
	return name
}

func (w *world) phone(r *rand.Rand, c customer) string {
	n := slip(r, 0.01, c.place.area+c.phone)
	half := len(n) / 2
	a, b := n[:half], n[half:]
	return pick(r, []string{
		"+" + c.code + n, "+" + c.code + " " + a + " " + b, "00" + c.code + n, c.trunk + n, c.trunk + a + "/" + b, "Tel. " + c.trunk + a + "-" + b,
		"+" + c.code + " (" + c.trunk + ")" + a + " " + b, "+" + c.code + "-" + a + "." + b + " ext. 12",
	})
}

// grouped writes a number in groups, as people do.
func grouped(r *rand.Rand, s string) string {
	sep := pick(r, []string{"", "", " ", ".", "-"})
	var b strings.Builder
	for i, c := range s {
		if i > 0 && i%3 == 0 {
			b.WriteString(sep)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// slip makes a typing error with a probability: two neighbours swapped, one doubled or one left out.
func slip(r *rand.Rand, p float64, s string) string {
	if r.Float64() >= p {
		return s
	}
	x := []rune(s)
	i := r.IntN(len(x) - 1)
	switch r.IntN(3) {
	case 0:
		x[i], x[i+1] = x[i+1], x[i]
		return string(x)
	case 1:
		return string(x[:i+1]) + string(x[i:])
	}
	return string(x[:i]) + string(x[i+1:])
}

func plain(s string) string {
	return strings.NewReplacer("ü", "u", "ö", "o", "ä", "a", "é", "e", "è", "e", "í", "i", "ì", "i", "ó", "o", "á", "a", "ñ", "n", "ú", "u", "ø", "o", "Ø", "O", "ç", "c", "É", "E", "'", "").Replace(s)
}
