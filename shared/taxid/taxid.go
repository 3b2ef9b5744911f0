// Package taxid tells whether a tax number can be one: its form and its check digits, per country. It asks nobody whether the
// number was ever given to anyone.
//
// Known are the VAT numbers of the member states of the European Union, of Great Britain (and Northern Ireland, XI) and of
// Switzerland (and Liechtenstein), and the form and the prefixes of a US employer identification number.
//
// Sources: the VIES VAT number algorithms of the European Commission (https://ec.europa.eu/taxation_customs/vies/), HMRC's
// modulus 97 and 9755, eCH-0097 for Swiss UIDs, IRS Publication 1635 and the IRS's list of EIN prefixes
// (https://www.irs.gov/businesses/small-businesses-self-employed/how-eins-are-assigned-and-valid-ein-prefixes).
package taxid

import (
	"fmt"
	"slices"
	"strings"
)

// Verdict is what can be said about a number.
type Verdict struct {
	Known  bool   // the country's numbers are known here; if not, nothing is said about it
	Number string // as the country writes it: capital letters and digits, with the prefix that it has there
	Fault  string // what is wrong, for people; empty if nothing is
}

// OK reports whether nothing is wrong with a number of a country that is known.
func (v Verdict) OK() bool { return v.Known && v.Fault == "" }

// country describes the numbers of one.
type country struct {
	prefix string   // before the number
	forms  []string // 9 is a digit, @ a letter, # either; anything else is itself
	words  string   // the forms, for people
	check  func(n string) bool
}

// Check judges a number of a country, which is its ISO 3166 code of two letters, or EL or XI as in VAT numbers. Spaces,
// dots, hyphens, slashes and the case of letters do not matter, nor whether the prefix is there.
func Check(code, number string) Verdict {
	code = strings.ToUpper(strings.TrimSpace(code))
	c, known := of(code)
	if !known {
		return Verdict{}
	}
	n, strange := plain(number)
	if strange != 0 {
		return Verdict{Known: true, Number: n, Fault: fmt.Sprintf("%q does not belong in a tax number", strange)}
	}
	n = strings.TrimPrefix(n, c.prefix)
	if code == "CH" || code == "LI" {
		for _, suffix := range []string{"MWST", "TVA", "IVA", "TPV"} {
			n = strings.TrimSuffix(n, suffix)
		}
	}
	if code == "GR" || code == "EL" {
		n = strings.TrimPrefix(n, "GR")
		if len(n) == 8 { // old numbers have lost their zero
			n = "0" + n
		}
	}
	v := Verdict{Known: true, Number: c.prefix + n}
	switch {
	case n == "":
		v.Number, v.Fault = "", "it is empty"
	case !slices.ContainsFunc(c.forms, func(form string) bool { return fits(n, form) }):
		v.Fault = "it must be " + c.words
		if len(c.prefix) > 0 {
			v.Fault += ", after " + c.prefix
		}
	case !c.check(n):
		v.Fault = "its check digits are wrong: a digit is mistyped, or two have changed places"
	}
	return v
}

// plain leaves letters and digits, and tells what else there is that does not separate them.
func plain(s string) (string, rune) {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z':
			b.WriteRune(r - 'a' + 'A')
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '+', r == '*': // old Irish numbers have a sign
			b.WriteRune(r)
		case strings.ContainsRune(" .-/\u00a0\u2010\u2011\u2013", r):
		default:
			return b.String(), r
		}
	}
	return b.String(), 0
}

func fits(n, form string) bool {
	if len(n) != len(form) {
		return false
	}
	for i := range len(n) {
		c := n[i]
		isDigit, isLetter := c >= '0' && c <= '9', c >= 'A' && c <= 'Z'
		switch form[i] {
		case '9':
			if !isDigit {
				return false
			}
		case '@':
			if !isLetter {
				return false
			}
		case '#':
			if !isDigit && !isLetter {
				return false
			}
		default:
			if c != form[i] {
				return false
			}
		}
	}
	return true
}
