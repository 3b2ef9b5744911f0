package match

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNormalisers(t *testing.T) {
	t.Parallel()
	rows := []struct{ normaliser, country, value, want string }{
		{"exact", "", " A-7 ", "A-7"},
		{"exact", "", "a-7", "a-7"},
		{"exact", "", "  ", ""},

		{"text", "", "Müller-Lüdenscheidt", "muller ludenscheidt"},
		{"text", "", "MULLER  LUDENSCHEIDT", "muller ludenscheidt"},
		{"text", "", "Mueller", "mueller"},
		{"text", "", "J.P. Morgan", "jp morgan"},
		{"text", "", "JP Morgan", "jp morgan"},
		{"text", "", "J. P. Morgan", "jp morgan"},
		{"text", "", "St. Gallen", "st gallen"},
		{"text", "", "O'Neil’s", "oneils"},
		{"text", "", "Ærø Straße", "aero strasse"},
		{"text", "", "ＡＢＣ　１２", "abc 12"},
		{"text", "", "ΟΔΟΣ", "οδοσ"},
		{"text", "", "がくせい", "がくせい"},
		{"text", "", "İstanbul", "istanbul"},
		{"text", "", "-- !", ""},

		{"company", "", "The Müller & Söhne GmbH & Co. KG", "muller sohne"},
		{"company", "", "Muller und Sohne", "muller sohne"},
		{"company", "", "Acme, Inc.", "acme"},
		{"company", "", "ACME Limited", "acme"},
		{"company", "", "S.A.R.L. Dupont", "dupont"},
		{"company", "", "Dupont S. à r.l.", "dupont"},
		{"company", "", "Dupont Sàrl", "dupont"},
		{"company", "", "Rossi S.p.A.", "rossi"},
		{"company", "", "Kowalski Sp. z o.o.", "kowalski"},
		{"company", "", "Grupo Sol S.A. de C.V.", "grupo sol"},
		{"company", "", "Novo A/S", "novo"},
		{"company", "", "Toyo K.K.", "toyo"},
		{"company", "", "株式会社日立", "日立"},
		{"company", "", "㈱日立", "日立"},
		{"company", "", "Oy Nokia Ab", "nokia"},
		{"company", "", "Philips N.V.", "philips"},
		{"company", "", "Acme Pty Ltd", "acme"},
		{"company", "", "Limited Inc", "limited"},
		{"company", "", "Co-op", "co op"},
		{"company", "", "AND Digital", "and digital"},
		{"company", "", "E&Y", "e y"},

		{"tax-id", "", "de 123 456 789", "DE123456789"},
		{"tax-id", "Germany", "123456789", "DE123456789"},
		{"tax-id", "", "123456789", "123456789"},
		{"tax-id", "US", "12-3456789", "US123456789"},
		{"tax-id", "US", "US123456789", "US123456789"},
		{"tax-id", "US", "DE123456789", "DE123456789"},
		{"tax-id", "GR", "123456789", "EL123456789"},
		{"tax-id", "", "GR 123456789", "EL123456789"},
		{"tax-id", "", "XI 123 4567 89", "GB123456789"},
		{"tax-id", "GB", "123 4567 89", "GB123456789"},
		{"tax-id", "", "CHE-123.456.789 MWST", "CHE123456789"},
		{"tax-id", "", "CHE-123.456.789 TVA", "CHE123456789"},
		{"tax-id", "CH", "CHE-123.456.789 IVA", "CHE123456789"},
		{"tax-id", "Schweiz", "123.456.789", "CHE123456789"},
		{"tax-id", "CH", "CH 123.456.789", "CHE123456789"},
		{"tax-id", "NO", "923 456 789 MVA", "NO923456789"},
		{"tax-id", "", "NO 923456789MVA", "NO923456789"},
		{"tax-id", "BE", "BE 123.456.789", "BE0123456789"},
		{"tax-id", "", "BE0123456789", "BE0123456789"},
		{"tax-id", "NL", "NL123456789B01", "NL123456789B01"},
		{"tax-id", "ES", "B-12345678", "ESB12345678"},
		{"tax-id", "AT", "U12345678", "ATU12345678"},
		{"tax-id", "IN", "27AAPFU0939F1ZV", "IN27AAPFU0939F1ZV"},
		{"tax-id", "", "n/a", ""},
		{"tax-id", "DE", "000000000", ""},
		{"tax-id", "", "DE000000000", ""},
		{"tax-id", "", "1234", ""},
		{"tax-id", "", "unknown", ""},

		{"domain", "", "https://www.shop.Acme.co.uk:443/x?y", "acme.co.uk"},
		{"domain", "", "info@ACME.co.uk", "acme.co.uk"},
		{"domain", "", "acme.com.", "acme.com"},
		{"domain", "", "acme.com, acme.de", "acme.com"},
		{"domain", "", "acme.myshopify.com", "acme.myshopify.com"},
		{"domain", "", "www.münchen-kaffee.de", "xn--mnchen-kaffee-wob.de"},
		{"domain", "", "xn--mnchen-kaffee-wob.de", "xn--mnchen-kaffee-wob.de"},
		{"domain", "", "northwind.example", "northwind.example"},
		{"domain", "", "ann@gmail.com", ""},
		{"domain", "", "ann@gmx.at", ""},
		{"domain", "", "ann@outlook.de", ""},
		{"domain", "", "ann@yahoo.co.uk", ""},
		{"domain", "", "https://facebook.com/acme", ""},
		{"domain", "", "co.uk", ""},
		{"domain", "", "http://192.168.1.1/", ""},
		{"domain", "", "http://[::1]/", ""},
		{"domain", "", "erp.local", ""},
		{"domain", "", "none", ""},

		{"email", "", " Ann <Ann@ACME.com> ", "ann@acme.com"},
		{"email", "", "mailto:ann@acme.com", "ann@acme.com"},
		{"email", "", "ann+x@acme.com", "ann+x@acme.com"},
		{"email", "", "ann@gmail.com", "ann@gmail.com"},
		{"email", "", "ann@acme", ""},
		{"email", "", "a@b@acme.com", ""},
		{"email", "", "ann b@acme.com", ""},

		{"phone", "", "+49 (0)40 123456", "+4940123456"},
		{"phone", "", "0049 40 123456", "+4940123456"},
		{"phone", "Deutschland", "040/123456", "+4940123456"},
		{"phone", "DE", "40 123456", "+4940123456"},
		{"phone", "DE", "+49 40 1234-0 ext. 12", "+494012340"},
		{"phone", "", "040/123456", ""},
		{"phone", "IT", "06 1234567", "+39061234567"},
		{"phone", "", "+39 06 1234567", "+39061234567"},
		{"phone", "US", "(617) 555-2671", "+16175552671"},
		{"phone", "CA", "1-617-555-2671", "+16175552671"},
		{"phone", "US", "011 44 20 7946 0123", "+442079460123"},
		{"phone", "GB", "020 7946 0123", "+442079460123"},
		{"phone", "GB", "442079460123", "+442079460123"},
		{"phone", "HU", "06 1 234 5678", "+3612345678"},
		{"phone", "BY", "8 029 491-19-11", "+375294911911"},
		{"phone", "RU", "8 495 123 45 67", "+74951234567"},
		{"phone", "FR", "Tél. 01 23 45 67 89", "+33123456789"},
		{"phone", "MX", "+52 1 55 1234 5678", "+525512345678"},
		{"phone", "AU", "0011 49 40 123456", "+4940123456"},
		{"phone", "US", "1-800-FLOWERS", ""},
		{"phone", "DE", "000000", ""},
		{"phone", "DE", "+49 40", ""},
		{"phone", "DE", "n/a", ""},
		{"phone", "", "+999 1234567", ""},

		{"postcode", "", "sw1a 1aa", "SW1A1AA"},
		{"postcode", "", "D-20095", "20095"},
		{"postcode", "DE", "1067", "01067"},
		{"postcode", "US", "02134-1000", "02134"},
		{"postcode", "US", "021341000", "02134"},
		{"postcode", "CH", "8000", "8000"},
		{"postcode", "", "1012 ab", "1012AB"},
		{"postcode", "PL", "00-950", "00950"},
		{"postcode", "", "00000", ""},

		{"country", "", "Deutschland", "DE"},
		{"country", "", "germany", "DE"},
		{"country", "", "DEU", "DE"},
		{"country", "", " de ", "DE"},
		{"country", "", "UK", "GB"},
		{"country", "", "U.S.A.", "US"},
		{"country", "", "_unitedStates", "US"},
		{"country", "", "Côte d’Ivoire", "CI"},
		{"country", "", "Österreich", "AT"},
		{"country", "", "日本", "JP"},
		{"country", "", "XX", ""},
		{"country", "", "Atlantis", ""},
		{"country", "", "220", ""},
		{"country", "", "|", ""},
		{"nonesuch", "", "x", ""},
	}
	for _, r := range rows {
		if got := Normalise(r.normaliser, r.value, r.country); got != r.want {
			t.Errorf("%s(%q, %q) = %q, want %q", r.normaliser, r.value, r.country, got, r.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	names := Normalisers()
	if !slices.IsSorted(names) {
		t.Errorf("%v is not sorted", names)
	}
	for _, n := range names {
		if !Known(n) {
			t.Errorf("%s is not known", n)
		}
		if Normalise(n, "DE123456789", "DE") == "" && Normalise(n, "ann@acme.com", "DE") == "" && Normalise(n, "DE", "DE") == "" && Normalise(n, "040 123456", "DE") == "" {
			t.Errorf("%s gives no key for anything", n)
		}
	}
	if Known("soundex") || Known("") {
		t.Error("unknown names are known")
	}
}

// Every line of the table is well-formed, and every name in it is what fold makes of it and leads to its own line.
func TestLands(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(lands), "\n")
	if len(lines) < 240 {
		t.Fatalf("%d countries", len(lines))
	}
	if !slices.IsSorted(lines) {
		t.Error("not sorted by code")
	}
	for _, line := range lines {
		head, names, _ := strings.Cut(line, joiner)
		f := strings.Fields(head)
		l, ok := landOf(f[0])
		if !ok || l.iso != f[0] || l.min < 3 || l.max > 15 || l.min > l.max {
			t.Errorf("%q is %+v", head, l)
		}
		if byCode, ok := landOfCode(l.code + "5550100"); !ok || byCode.code != l.code || byCode.trunk != l.trunk || byCode.min != l.min || byCode.max != l.max {
			t.Errorf("calling code of %s gives %+v", f[0], byCode)
		}
		for _, name := range append(strings.Split(strings.Trim(names, joiner), joiner), f[1]) {
			if got := Normalise("country", name, ""); got != f[0] {
				t.Errorf("%q of %s gives %q", name, f[0], got)
			}
		}
	}
}

func idempotent(t interface {
	Helper()
	Errorf(string, ...any)
}, normaliser, value, country string) {
	t.Helper()
	once := Normalise(normaliser, value, country)
	if twice := Normalise(normaliser, once, country); twice != once {
		t.Errorf("%s(%q, %q) = %q, and again %q", normaliser, value, country, once, twice)
	}
}

func TestIdempotent(t *testing.T) {
	t.Parallel()
	countries := rapid.SampledFrom([]string{"", "DE", "GB", "US", "CH", "GR", "NO", "BE", "HU", "RU", "BY", "IT", "MX", "JP", "FR"})
	digits := rapid.StringMatching(`(\+|00|0)?[0-9 ()/.-]{0,18}`)
	ids := rapid.StringMatching(`[A-Z]{0,4}[ .-]?[0-9]{0,12}(MWST|TVA|MVA|B01|HR)?`)
	words := rapid.StringMatching(`(the )?[A-Za-zÄößøŁ.&/' ]{0,20}( and | & |, )?(GmbH|Ltd\.?|S\.A\.|Co\.? KG|B\.V\.|sp\. z o\.o\.)?`)
	hosts := rapid.StringMatching(`(https?://)?([a-zü0-9-]{1,8}@)?[a-zü0-9-]{1,8}(\.[a-zß-]{2,5}){1,3}(/.*)?`)
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.String(), digits, ids, words, hosts).Draw(t, "value")
		country := countries.Draw(t, "country")
		for _, n := range Normalisers() {
			idempotent(t, n, value, country)
		}
	})
}

func fuzz(f *testing.F, normaliser string, seeds ...string) {
	for _, s := range append(seeds, "", " ", "ß", "\xff\x00", strings.Repeat("ﷺ", 400)) {
		f.Add(s, "DE")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, value, country string) { idempotent(t, normaliser, value, country) })
}

func FuzzExact(f *testing.F) { fuzz(f, "exact", " A-7 ") }
func FuzzText(f *testing.F)  { fuzz(f, "text", "J.P. Morgan", "Œuvre A/S", "ΑΒΣ", "ǅ") }
func FuzzCompany(f *testing.F) {
	fuzz(f, "company", "The A & B GmbH & Co. KG", "株式会社日立", "AG AG", "and the")
}
func FuzzTaxID(f *testing.F) {
	fuzz(f, "tax-id", "CHE-123.456.789 MWST", "BE123456789", "GR123456789", "NO923456789MVA")
}
func FuzzDomain(f *testing.F) {
	fuzz(f, "domain", "https://www.acme.co.uk/x", "a@münchen.de", "http://[::1]")
}
func FuzzEmail(f *testing.F) { fuzz(f, "email", "Ann <Ann@ACME.com>", "mailto:mailto:a@b.de") }
func FuzzPhone(f *testing.F) {
	fuzz(f, "phone", "+49 (0)40 123456 ext. 5", "8 495 123 45 67", "0011 49 40 1234567")
}
func FuzzPostcode(f *testing.F) { fuzz(f, "postcode", "D-20095", "02134-1000", "A-B-1010") }
func FuzzCountry(f *testing.F)  { fuzz(f, "country", "Deutschland", "U.S.A.", "|de|") }
