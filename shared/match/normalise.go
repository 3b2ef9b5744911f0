package match

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
	"golang.org/x/text/unicode/norm"
)

// Normalisers lists the names that Normalise knows, sorted.
func Normalisers() []string {
	return []string{"company", "country", "domain", "email", "exact", "phone", "postcode", "tax-id", "text"}
}

// Known reports whether there is a normaliser of that name.
func Known(name string) bool { return slices.Contains(Normalisers(), name) }

// maxInput bounds what a normaliser looks at. No name, number or address that identifies anybody is longer.
const maxInput = 1024

// Normalise turns a value as people typed it into its comparable form, "" when there is none to compare (nothing said,
// not of that kind, or shared by too many). country is the record's country in any form, "" when unknown. Normalising a
// result again, under the same country, changes nothing.
func Normalise(name, value, country string) string {
	if len(value) > maxInput {
		if name == "exact" {
			return value
		}
		return ""
	}
	switch name {
	case "exact":
		return exact(value)
	case "text":
		return fold(value)
	case "company":
		return company(value)
	case "tax-id":
		return taxID(value, country)
	case "domain":
		return domain(value)
	case "email":
		return email(value)
	case "phone":
		return phone(value, country)
	case "postcode":
		return postcode(value, country)
	case "country":
		return countryCode(value)
	}
	return ""
}

// exact equates only what is the same but for spaces around it: " A-7" = "A-7", "A-7" ≠ "a-7".
func exact(s string) string { return strings.TrimSpace(s) }

// fold equates texts that differ in case, spaces, punctuation, diacritics, ligatures and width, and initials with and
// without points: "Müller-Lüdenscheidt" = "MULLER LUDENSCHEIDT", "J.P. Morgan" = "JP Morgan", "O'Neil" = "ONeil",
// "Ærø" = "aero", "ＡＢＣ" = "abc". It does not equate "Müller" with "Mueller": an ue is an ü in some names only.
func fold(s string) string {
	if len(s) > maxInput {
		return ""
	}
	for range 4 { // folding a rule of Unicode may uncover another; twice is the most that was seen
		next := foldOnce(s)
		if next == s {
			break
		}
		s = next
	}
	if len(s) > maxInput { // one character may become eighteen
		return ""
	}
	return s
}

func foldOnce(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 8)
	var pending []rune // what stood since the last letter
	size := 0          // letters in the present word
	runes := []rune(norm.NFKD.String(s))
	for i, r := range runes {
		switch {
		case diacritic(r):
			continue
		case r == '\'' || r == '’' || r == '‘' || r == '`' || r == 'ʼ' || unicode.Is(unicode.Cf, r):
			continue
		case !wordRune(r):
			pending = append(pending, r)
			continue
		}
		if len(pending) > 0 {
			next := i + 1
			for next < len(runes) && diacritic(runes[next]) {
				next++
			}
			alone := next == len(runes) || !wordRune(runes[next])
			initials := size == 1 && alone && (pending[0] == '.' || pending[0] == '/') && strings.TrimSpace(string(pending[1:])) == ""
			if b.Len() > 0 && !initials {
				b.WriteByte(' ')
				size = 0
			}
			if initials {
				size = 0 // so that the next initial joins as well
			}
			pending = pending[:0]
		}
		b.WriteString(foldRune(r))
		size++
	}
	return norm.NFC.String(b.String())
}

// diacritic reports a mark of Latin, Greek and Cyrillic letters. Those of other scripts carry the sound, and stay.
func diacritic(r rune) bool { return r >= 0x300 && r <= 0x36f }

func wordRune(r rune) bool { return unicode.In(r, unicode.L, unicode.N, unicode.M) }

// foldRune lowers a letter, also where Unicode needs a detour (ς, ſ), and writes out the letters that do not decompose.
func foldRune(r rune) string {
	switch r = unicode.ToLower(unicode.ToUpper(r)); r {
	case 'ß', 'ẞ':
		return "ss"
	case 'æ':
		return "ae"
	case 'œ':
		return "oe"
	case 'ø':
		return "o"
	case 'ł':
		return "l"
	case 'đ', 'ð':
		return "d"
	case 'þ':
		return "th"
	case 'ı':
		return "i"
	}
	return string(r)
}

// company equates names that differ only in what fold ignores, in legal forms at either end, in "the", and in "and" or
// "&" between words: "The Müller & Söhne GmbH & Co. KG" = "Muller und Sohne", "Acme, Inc." = "ACME Limited",
// "S.A.R.L. Dupont" = "Dupont". At least one word remains: "Limited Inc" is "limited".
func company(s string) string {
	words := strings.Fields(cutJoined(fold(s)))
	for {
		before := len(words)
		kept := words[:0:0]
		for i, w := range words {
			if i == 0 || !slices.Contains([]string{"and", "und", "et", "och", "og"}, w) {
				kept = append(kept, w)
			}
		}
		words = cutForms(kept)
		if len(words) == before {
			return strings.Join(words, " ")
		}
	}
}

// cutJoined removes the legal forms that East Asian names carry without a space.
func cutJoined(s string) string {
	for _, form := range []string{"株式会社", "有限会社", "合同会社", "股份有限公司", "有限责任公司", "有限公司", "주식회사"} {
		if rest := strings.TrimSpace(strings.ReplaceAll(s, form, " ")); rest != "" {
			s = rest
		}
	}
	return s
}

// Legal forms, folded. What a word means elsewhere decides where it counts: "Co" is a form at the end and a name in front.
const (
	formsBehind = "|inc|incorporated|ltd|limited|llc|llp|lp|plc|corp|corporation|co|company|" +
		"gmbh|mbh|ag|kg|kgaa|ohg|ug|haftungsbeschrankt|gbr|ev|eg|se|aktiengesellschaft|gesellschaft mit beschrankter haftung|gesmbh|" +
		"sa|sarl|sas|sasu|sa rl|eurl|snc|sca|scs|scrl|societe anonyme|sprl|srl|srls|spa|sapa|sl|slu|sau|sc|scl|sociedad anonima|sa de cv|s de rl de cv|s de rl|de cv|" +
		"bv|nv|vof|cv|bvba|besloten vennootschap|oy|oyj|ab|abp|aktiebolag|publ|as|asa|ans|aps|a s|ivs|hf|ehf|" +
		"kk|gk|pty|pte|pvt|private|proprietary|bhd|sdn|" +
		"sp z oo|sp zoo|spolka z oo|sp k|sro|spol s ro|doo|dd|ad|ood|eood|kft|zrt|nyrt|bt|uab|sia|ou|ltda|lda|eireli|me|epp|ooo|oao|pao|ao|zao|ип|ооо|оао|пао|ао|зао|株|有|"
	formsInFront = "|the|sarl|sas|sprl|societe anonyme|ooo|oao|pao|zao|ип|ооо|оао|пао|ао|зао|oy|ab|pt|株|有|firma|"
)

func cutForms(words []string) []string {
	for again := true; again; {
		again = false
		for n := min(5, len(words)-1); n > 0; n-- {
			if strings.Contains(formsBehind, joiner+strings.Join(words[len(words)-n:], " ")+joiner) {
				words, again = words[:len(words)-n], true
				break
			}
		}
		for n := min(2, len(words)-1); n > 0; n-- {
			if strings.Contains(formsInFront, joiner+strings.Join(words[:n], " ")+joiner) {
				words, again = words[n:], true
				break
			}
		}
	}
	return words
}

// compact keeps letters and digits, in upper case and plain width.
func compact(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.In(r, unicode.L, unicode.N) {
			return -1
		}
		return unicode.ToUpper(r)
	}, norm.NFKD.String(s))
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// same reports whether s is one character over and over, as placeholders are.
func same(s string) bool { return s == "" || strings.Trim(s, s[:1]) == "" }

// vatLengths is how long what follows the prefix is in each VAT number scheme, shortest and longest.
// Source: https://ec.europa.eu/taxation_customs/vies/faq.html (question 11), and for GB https://www.gov.uk/vat-eu-country-codes-vat-numbers-and-vat-in-other-languages
const vatLengths = "AT0909 BE1010 BG0910 CY0909 CZ0810 DE0909 DK0808 EE0909 EL0909 ES0909 FI0808 FR1111 GB0912 HR1111 HU0808 IE0809 IT1111 " +
	"LT0912 LU0808 LV1111 MT0808 NL1212 NO0909 PL1010 PT0909 RO0210 SE1212 SI0808 SK1010 "

// taxID equates tax numbers that differ in case, spaces and punctuation, in a country prefix that the record's country
// would supply, and in suffixes that only say "VAT". "de 123 456 789" = "123456789" of Germany; Greece's GR = EL;
// "XI…" = "GB…"; "CHE-123.456.789 MWST" = "CHE123456789" = "123.456.789" of Switzerland (TVA and IVA likewise); "NO 923 456 789 MVA" =
// "NO923456789"; Belgium's nine digits get their leading zero. Without a prefix or a known country the bare number
// remains, and matches bare numbers only. Fewer than five characters, fewer than four digits or one digit over and over: no key.
func taxID(s, country string) string {
	s = compact(s)
	count := 0
	for _, r := range s {
		if r >= '0' && r <= '9' {
			count++
		}
	}
	if len(s) < 5 || count < 4 || len(s) > 40 || same(strings.TrimLeftFunc(s, unicode.IsLetter)) {
		return ""
	}
	prefix := ""
	if l, ok := landOf(country); ok {
		prefix = vatPrefix(l.iso)
	}
	if own := vatPrefix(s[:2]); own != s[:2] && vatShaped(own+s[2:]) {
		s = own + s[2:]
	}
	switch uid := strings.TrimPrefix(s, "CHE"); {
	case s != uid && swiss(uid):
		return "CHE" + uid[:9]
	case prefix == "CH" && swiss(strings.TrimPrefix(s, "CH")):
		return "CHE" + strings.TrimPrefix(s, "CH")[:9]
	case prefix == "CH" && strings.HasPrefix(s, "CHE"), s != uid && prefix == "":
		return s
	}
	if prefix == "NO" || strings.HasPrefix(s, "NO") {
		if bare := strings.TrimSuffix(s, "MVA"); digits(strings.TrimPrefix(bare, "NO")) {
			s = bare
		}
	}
	if !vatShaped(s) && prefix != "" && !strings.HasPrefix(s, prefix) {
		s = prefix + s
	}
	if be := strings.TrimPrefix(s, "BE"); be != s && len(be) == 9 && digits(be) {
		s = "BE0" + be
	}
	return s
}

// vatPrefix is how tax numbers name a country: as ISO does, but for Greece, and Northern Ireland as a part of GB.
func vatPrefix(iso string) string {
	switch iso {
	case "GR":
		return "EL"
	case "XI":
		return "GB"
	}
	return iso
}

func swiss(s string) bool {
	return len(s) >= 9 && digits(s[:9]) && slices.Contains([]string{"", "MWST", "TVA", "IVA", "HR", "RC"}, s[9:])
}

// vatShaped reports whether s has the prefix of a VAT scheme, the length that the scheme has, and digits where all schemes have them.
func vatShaped(s string) bool {
	if len(s) < 5 {
		return false
	}
	i := strings.Index(vatLengths, s[:2])
	if i < 0 || i%7 != 0 {
		return false
	}
	rest := len(s) - 2
	return rest >= number(vatLengths[i+2:i+4]) && rest <= number(vatLengths[i+4:i+6]) && digits(s[len(s)-5:len(s)-3])
}

// domain equates websites and mail addresses of one registrable domain: "https://www.shop.acme.co.uk/x?y" = "info@ACME.co.uk" =
// "acme.co.uk", and an international name with its xn-- form. What is shared has no key: addresses of mail
// providers and of social networks, IP addresses, names inside a network, bare public suffixes.
func domain(s string) string {
	s = strings.ToLower(strings.TrimSpace(norm.NFKC.String(s)))
	if i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",;<>\"", r) }); i >= 0 {
		s = s[:i]
	}
	if i := strings.Index(s, "://"); i >= 0 {
		s = s[i+3:]
	}
	s = strings.TrimPrefix(s, "mailto:")
	if i := strings.IndexAny(s, "/?#\\"); i >= 0 {
		s = s[:i]
	}
	s = s[strings.LastIndexByte(s, '@')+1:]
	if i := strings.IndexByte(s, ':'); i >= 0 {
		s = s[:i]
	}
	host := hostname(s)
	if host == "" {
		return ""
	}
	suffix, _ := publicsuffix.PublicSuffix(host)
	own, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil || shared(own, suffix) {
		return ""
	}
	return own
}

// hostname is the ASCII form of a host with at least two labels whose last is not a number, or "".
func hostname(s string) string {
	host, err := idna.Lookup.ToASCII(strings.Trim(s, "."))
	if err != nil || !strings.Contains(host, ".") || len(host) > 253 || strings.Contains(host, "..") || strings.ContainsFunc(host, func(r rune) bool {
		return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) {
		return ""
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; last == "" || digits(last) {
		return ""
	}
	return host
}

const (
	// Providers with a name under many suffixes, by the label before it.
	sharedNames = "|gmail|googlemail|outlook|hotmail|live|msn|yahoo|ymail|rocketmail|gmx|icloud|aol|yandex|protonmail|proton|zoho|zohomail|mail|" +
		"facebook|linkedin|instagram|twitter|youtube|tiktok|xing|"
	sharedDomains = "|me.com|mac.com|pm.me|web.de|t-online.de|freenet.de|arcor.de|1und1.de|online.de|email.de|posteo.de|mailbox.org|fastmail.com|fastmail.fm|hey.com|tutanota.com|tuta.io|" +
		"inbox.com|list.ru|bk.ru|rambler.ru|ya.ru|ukr.net|i.ua|inbox.lv|seznam.cz|email.cz|centrum.cz|azet.sk|wp.pl|o2.pl|onet.pl|interia.pl|op.pl|freemail.hu|citromail.hu|abv.bg|" +
		"orange.fr|wanadoo.fr|free.fr|sfr.fr|laposte.net|neuf.fr|bbox.fr|bluewin.ch|hispeed.ch|sunrise.ch|aon.at|chello.at|a1.net|libero.it|virgilio.it|tiscali.it|alice.it|tin.it|" +
		"telefonica.net|terra.es|sapo.pt|ziggo.nl|kpnmail.nl|planet.nl|home.nl|hetnet.nl|xs4all.nl|telenet.be|skynet.be|telia.com|bredband.net|btinternet.com|btopenworld.com|talktalk.net|sky.com|" +
		"virginmedia.com|ntlworld.com|blueyonder.co.uk|eircom.net|comcast.net|verizon.net|att.net|sbcglobal.net|bellsouth.net|cox.net|charter.net|earthlink.net|juno.com|optonline.net|" +
		"shaw.ca|rogers.com|sympatico.ca|videotron.ca|bigpond.com|optusnet.com.au|xtra.co.nz|uol.com.br|bol.com.br|terra.com.br|ig.com.br|rediffmail.com|" +
		"qq.com|163.com|126.com|sina.com|sohu.com|foxmail.com|naver.com|daum.net|hanmail.net|docomo.ne.jp|ezweb.ne.jp|linktr.ee|bit.ly|g.page|wa.me|t.me|x.com|fb.com|"
	privateSuffixes = "|local|localhost|localdomain|internal|lan|home|corp|intranet|invalid|arpa|"
)

func shared(own, suffix string) bool {
	name := strings.TrimSuffix(own, "."+suffix)
	return strings.Contains(sharedNames, joiner+name+joiner) || strings.Contains(sharedDomains, joiner+own+joiner) ||
		strings.Contains(privateSuffixes, joiner+suffix+joiner)
}

// email equates addresses that differ in case, in a name or mailto: around them, and in the written form of an
// international domain: "Ann <Ann@ACME.com>" = "mailto:ann@acme.com". What follows a + stays: ann+x@ and ann@ may be two people.
func email(s string) string {
	s = strings.TrimSpace(norm.NFKC.String(s))
	if i := strings.LastIndexByte(s, '<'); i >= 0 && strings.HasSuffix(s, ">") {
		s = s[i+1 : len(s)-1]
	}
	s = strings.TrimSpace(strings.TrimPrefix(norm.NFKC.String(strings.ToLower(s)), "mailto:"))
	local, host, ok := strings.Cut(s, "@")
	host = hostname(host)
	if !ok || local == "" || len(local) > 64 || host == "" || strings.ContainsFunc(local, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("<>()[],;:\"\\", r)
	}) {
		return ""
	}
	return local + "@" + host
}

// phone equates numbers that have one E.164 form: "+49 (0)40 123456", "0049 40 123456" and "040/123456" of Germany are
// "+4940123456". An extension is left out: it leads to the same company. A national number needs the record's country; without one,
// and when the length is not possible there, there is no key. Nor for letters, or one digit over and over. Not known:
// Argentina's 15 for mobiles, carrier codes in Brazil, numbers with letters, numbers without a country (+800). Otherwise it agrees
// with libphonenumber's example of a fixed and of a mobile number of every country, in six ways of writing each.
func phone(s, country string) string {
	s = strings.ToLower(norm.NFKC.String(s))
	for _, mark := range []string{"ext", "x", "#", ";", ",", "durchwahl", "poste", "int."} {
		if i := strings.Index(s, mark); i > 5 {
			s = s[:i]
		}
	}
	i := strings.IndexFunc(s, func(r rune) bool { return r == '+' || r >= '0' && r <= '9' })
	if i < 0 || i > 20 {
		return ""
	}
	s = s[i:]
	international := s[0] == '+'
	if strings.ContainsFunc(s, unicode.IsLetter) {
		return ""
	}
	number := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
	home, known := landOf(country)
	if !international {
		for _, exit := range []struct{ prefix, code string }{{"0011", "61"}, {"011", "1"}, {"010", "81"}, {"00", ""}} {
			if rest, ok := strings.CutPrefix(number, exit.prefix); ok && (exit.code == "" || known && exit.code == home.code) {
				number, international = rest, true
				break
			}
		}
	}
	if international {
		l, ok := landOfCode(number)
		if !ok {
			return ""
		}
		return l.e164(number[len(l.code):], true)
	}
	if !known {
		return ""
	}
	if k := home.e164(number, false); k != "" {
		return k
	}
	if rest, ok := strings.CutPrefix(number, home.code); ok { // the + was forgotten
		return home.e164(rest, true)
	}
	return ""
}

// e164 makes the international form of a national number. A trunk prefix that begins with 0 begins no national number and
// goes wherever it stands; 1 and 8 may, and go only from a number dialled nationally.
func (l land) e164(n string, international bool) string {
	fits := func(n string) bool { return len(n) >= l.min && len(n) <= l.max }
	zero := strings.HasPrefix(l.trunk, "0")
	for l.trunk != "" && strings.HasPrefix(n, l.trunk) && fits(n[len(l.trunk):]) && (zero || !international) {
		n = n[len(l.trunk):]
		if !zero {
			break
		}
	}
	if l.code == "52" && len(n) == 11 && n[0] == '1' { // Mexico's mark for mobiles, given up in 2019
		n = n[1:]
	}
	if !fits(n) || same(n) || len(l.code)+len(n) < 7 || len(l.code)+len(n) > 15 {
		return ""
	}
	return "+" + l.code + n
}

// postcode equates codes that differ in case, spaces and punctuation, and in a country prefix with a dash: "sw1a 1aa" = "SW1A1AA",
// "D-20095" = "20095". ZIP+4 is cut to the ZIP: "02134-1000" = "02134". Four digits get back the zero that a spreadsheet took, where the
// record's country has five (US, DE, FR, IT, ES).
func postcode(s, country string) string {
	s = strings.ToUpper(strings.TrimSpace(norm.NFKC.String(s)))
	if a, b, ok := strings.Cut(s, "-"); ok {
		a, b = strings.TrimSpace(a), strings.TrimSpace(b)
		switch {
		case a != "" && len(a) <= 3 && strings.Trim(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && b != "" && b[0] >= '0' && b[0] <= '9':
			s = b
		case len(a) == 5 && len(b) == 4 && digits(a) && digits(b):
			s = a
		}
	}
	s = compact(s)
	if len(s) < 3 || len(s) > 12 || same(s) {
		return ""
	}
	if l, ok := landOf(country); ok && strings.Contains("US DE FR IT ES", l.iso) && digits(s) {
		switch {
		case len(s) == 4:
			return "0" + s
		case len(s) == 9 && l.iso == "US":
			return s[:5]
		}
	}
	return s
}

// countryCode equates names and codes of a country with its ISO 3166-1 alpha-2: "Deutschland" = "germany" = "DEU" = "DE",
// "UK" = "GB", "U.S.A." = "US". It knows English, German, French, Spanish, Italian, Dutch and the country's own language.
func countryCode(s string) string {
	l, _ := landOf(s)
	return l.iso
}
