package taxid

import (
	"strconv"
	"strings"
)

// of is the country of a code.
func of(code string) (country, bool) {
	nine := []string{"999999999"}
	eight := []string{"99999999"}
	eleven := []string{"99999999999"}
	switch code {
	case "AT":
		return country{"AT", []string{"U99999999"}, "U and 8 digits", austria}, true
	case "BE":
		return country{"BE", []string{"0999999999", "1999999999"}, "10 digits that begin with 0 or 1", belgium}, true
	case "BG":
		return country{"BG", []string{"999999999", "9999999999"}, "9 or 10 digits", bulgaria}, true
	case "CH", "LI":
		return country{"CHE", nine, "9 digits", switzerland}, true
	case "CY":
		return country{"CY", []string{"99999999@"}, "8 digits and a letter", cyprus}, true
	case "CZ":
		return country{"CZ", []string{"99999999", "999999999", "9999999999"}, "8 to 10 digits", czechia}, true
	case "DE":
		return country{"DE", nine, "9 digits", func(n string) bool { return n[0] != '0' && mod11then10(n) }}, true
	case "DK":
		return country{"DK", eight, "8 digits", func(n string) bool { return n[0] != '0' && weighted(n, 2, 7, 6, 5, 4, 3, 2, 1)%11 == 0 }}, true
	case "EE":
		return country{"EE", nine, "9 digits", func(n string) bool { return weighted(n, 3, 7, 1, 3, 7, 1, 3, 7, 1)%10 == 0 }}, true
	case "ES":
		return country{"ES", []string{"#9999999#"}, "9 characters: a letter first, last or both, and digits", spain}, true
	case "FI":
		return country{"FI", eight, "8 digits", func(n string) bool { return weighted(n, 7, 9, 10, 5, 8, 4, 2, 1)%11 == 0 }}, true
	case "FR", "MC":
		return country{"FR", []string{"##999999999"}, "2 characters and 9 digits", france}, true
	case "GB", "XI":
		return country{code, []string{"999999999", "999999999999", "GD999", "HA999"}, "9 or 12 digits, or GD or HA and 3 digits", britain}, true
	case "GR", "EL":
		return country{"EL", nine, "9 digits", greece}, true
	case "HR":
		return country{"HR", eleven, "11 digits", mod11then10}, true
	case "HU":
		return country{"HU", eight, "8 digits", func(n string) bool { return weighted(n, 9, 7, 3, 1, 9, 7, 3, 1)%10 == 0 }}, true
	case "IE":
		return country{"IE", []string{"9999999@", "9999999@@", "9@99999@", "9+99999@", "9*99999@"}, "7 digits and one or two letters, or the old form with a letter or sign in second place", ireland}, true
	case "IT":
		return country{"IT", eleven, "11 digits", italy}, true
	case "LT":
		return country{"LT", []string{"999999919", "999999999919"}, "9 or 12 digits, the last but one a 1", lithuania}, true
	case "LU":
		return country{"LU", eight, "8 digits", func(n string) bool { return number(n[:6])%89 == number(n[6:]) }}, true
	case "LV":
		return country{"LV", eleven, "11 digits", latvia}, true
	case "MT":
		return country{"MT", eight, "8 digits", func(n string) bool { return n[0] != '0' && weighted(n, 3, 4, 6, 7, 8, 9, 10, 1)%37 == 0 }}, true
	case "NL":
		return country{"NL", []string{"999999999B99"}, "9 digits, B and 2 digits", netherlands}, true
	case "PL":
		return country{"PL", []string{"9999999999"}, "10 digits", func(n string) bool { return weighted(n, 6, 5, 7, 2, 3, 4, 5, 6, 7)%11 == digit(n, 9) }}, true
	case "PT":
		return country{"PT", nine, "9 digits", portugal}, true
	case "RO":
		return country{"RO", []string{"99", "999", "9999", "99999", "999999", "9999999", "99999999", "999999999", "9999999999"}, "2 to 10 digits", romania}, true
	case "SE":
		return country{"SE", []string{"999999999999"}, "12 digits", sweden}, true
	case "SI":
		return country{"SI", eight, "8 digits", slovenia}, true
	case "SK":
		return country{"SK", []string{"9999999999"}, "10 digits", slovakia}, true
	case "US":
		return country{"", nine, "9 digits, as in 12-3456789", func(n string) bool { return strings.Contains(einPrefixes, " "+n[:2]+" ") }}, true
	}
	return country{}, false
}

// einPrefixes are those that the IRS gives out.
const einPrefixes = " 01 02 03 04 05 06 10 11 12 13 14 15 16 20 21 22 23 24 25 26 27 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 71 72 73 74 75 76 77 80 81 82 83 84 85 86 87 88 90 91 92 93 94 95 98 99 "

func digit(n string, i int) int { return int(n[i] - '0') }

// number is what digits mean; n has few enough of them.
func number(n string) int {
	v, _ := strconv.Atoi(n)
	return v
}

// weighted adds up digits, each times its weight.
func weighted(n string, weights ...int) (sum int) {
	for i, w := range weights {
		sum += w * digit(n, i)
	}
	return sum
}

// luhn is ISO/IEC 7812-1, annex B.
func luhn(n string) bool {
	sum := 0
	for i := range len(n) {
		d := digit(n, len(n)-1-i)
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// mod11then10 is ISO/IEC 7064, MOD 11,10.
func mod11then10(n string) bool {
	p := 10
	for i := range len(n) - 1 {
		s := (p + digit(n, i)) % 10
		if s == 0 {
			s = 10
		}
		p = s * 2 % 11
	}
	return (p+digit(n, len(n)-1))%10 == 1
}

func austria(n string) bool {
	sum := 4
	for i := 1; i <= 7; i++ {
		d := digit(n, i)
		if i%2 == 0 {
			d *= 2
			d = d/10 + d%10
		}
		sum += d
	}
	return (10-sum%10)%10 == digit(n, 8)
}

func belgium(n string) bool { return 97-number(n[:8])%97 == number(n[8:]) }

func bulgaria(n string) bool {
	if len(n) == 9 { // a legal entity
		check := weighted(n, 1, 2, 3, 4, 5, 6, 7, 8) % 11
		if check == 10 {
			check = weighted(n, 3, 4, 5, 6, 7, 8, 9, 10) % 11
		}
		return check%10 == digit(n, 8)
	}
	last := digit(n, 9)
	other := 11 - weighted(n, 4, 3, 2, 7, 6, 5, 4, 3, 2)%11
	return bulgarian(n) && weighted(n, 2, 4, 8, 5, 10, 9, 7, 3, 6)%11%10 == last || // a citizen
		weighted(n, 21, 19, 17, 13, 11, 9, 7, 3, 1)%10 == last || // a foreigner
		other != 10 && other%11 == last
}

// bulgarian reports whether a personal number begins with a date: the month tells the century.
func bulgarian(n string) bool {
	year, month := 1900+number(n[:2]), number(n[2:4])
	switch {
	case month > 40:
		year, month = year+100, month-40
	case month > 20:
		year, month = year-100, month-20
	}
	return date(year, month, number(n[4:6]))
}

// date reports whether there is such a day.
func date(year, month, day int) bool {
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	days := []int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days++
	}
	return day <= days
}

func cyprus(n string) bool {
	sum := 0
	for i := range 8 {
		if d := digit(n, i); i%2 == 0 {
			sum += []int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21}[d]
		} else {
			sum += d
		}
	}
	return n[:2] != "12" && n[8] == byte('A'+sum%26)
}

func czechia(n string) bool {
	switch {
	case len(n) == 8: // a legal entity
		check := (11 - weighted(n, 8, 7, 6, 5, 4, 3, 2)%11) % 11
		if check == 0 {
			check = 1
		}
		return n[0] != '9' && check%10 == digit(n, 7)
	case len(n) == 9 && n[0] == '6': // somebody of a special kind
		sum := weighted(n[1:], 8, 7, 6, 5, 4, 3, 2) % 11
		return 8-(21-sum)%11 == digit(n, 8) || birth(n)
	}
	return birth(n)
}

// birth reports whether n is a Czech or Slovak birth number: month plus 50 is a woman's, plus 20 where numbers ran out.
func birth(n string) bool {
	year, month := 1900+number(n[:2]), number(n[2:4])%50%20
	if len(n) == 9 {
		if year >= 1980 {
			year -= 100
		}
		return year <= 1953 && date(year, month, number(n[4:6]))
	}
	if year < 1954 {
		year += 100
	}
	return date(year, month, number(n[4:6])) && number(n[:9])%11%10 == digit(n, 9)
}

const spanishLetters = "TRWAGMYFPDXBNJZSQVHLCKE"

func spain(n string) bool {
	first, last := n[0], n[8]
	personal := func(digits string) bool { return spanishLetters[number(digits)%23] == last }
	switch {
	case first >= '0' && first <= '9':
		return personal(n[:8])
	case strings.IndexByte("XYZ", first) >= 0:
		return personal(string(byte('0')+first-'X') + n[1:8])
	case strings.IndexByte("KLM", first) >= 0:
		return personal(n[1:8])
	case strings.IndexByte("ABCDEFGHJNPQRSUVW", first) < 0:
		return false
	}
	sum := 0
	for i := 1; i <= 7; i++ {
		d := digit(n, i)
		if i%2 == 1 {
			d *= 2
			d = d/10 + d%10
		}
		sum += d
	}
	check := (10 - sum%10) % 10
	asDigit, asLetter := last == byte('0'+check), last == "JABCDEFGHI"[check]
	switch {
	case strings.IndexByte("PQSNWR", first) >= 0:
		return asLetter
	case strings.IndexByte("ABEH", first) >= 0:
		return asDigit
	}
	return asDigit || asLetter
}

func france(n string) bool {
	const letters = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ" // no I and O
	a, b := strings.IndexByte(letters, n[0]), strings.IndexByte(letters, n[1])
	siren := n[2:]
	switch {
	case a < 0 || b < 0, siren[:3] != "000" && !luhn(siren): // Monaco's have no SIREN
		return false
	case a < 10 && b < 10:
		return (number(siren)*100+12)%97 == a*10+b
	}
	s := a*34 + b - 100
	if a < 10 {
		s = a*24 + b - 10
	}
	return (number(siren)+1+s/11)%11 == s%11
}

func britain(n string) bool {
	switch {
	case n[:2] == "GD":
		return number(n[2:]) < 500
	case n[:2] == "HA":
		return number(n[2:]) >= 500
	}
	check := weighted(n, 8, 7, 6, 5, 4, 3, 2, 10, 1) % 97
	return check == 0 || number(n[:3]) >= 100 && (check == 42 || check == 55)
}

func greece(n string) bool {
	sum := 0
	for i := range 8 {
		sum = sum*2 + digit(n, i)
	}
	return sum*2%11%10 == digit(n, 8)
}

func ireland(n string) bool {
	const letters = "WABCDEFGHIJKLMNOPQRSTUV"
	digits, check, more := n[:7], n[7], ""
	if n[1] < '0' || n[1] > '9' {
		digits = "0" + n[2:7] + n[:1]
	} else {
		more = n[8:]
	}
	sum := weighted(digits, 8, 7, 6, 5, 4, 3, 2)
	if more != "" {
		i := strings.Index(letters, more)
		if i < 0 {
			return false
		}
		sum += 9 * i
	}
	return letters[sum%23] == check
}

func italy(n string) bool {
	office := number(n[7:10])
	return n[:7] != "0000000" && (office >= 1 && office <= 100 || office == 120 || office == 121 || office == 888 || office == 999) && luhn(n)
}

func lithuania(n string) bool {
	sum := func(from int) (s int) {
		for i := range len(n) - 1 {
			s += (1 + (i+from)%9) * digit(n, i)
		}
		return s % 11
	}
	check := sum(0)
	if check == 10 {
		check = sum(2) % 10
	}
	return check == digit(n, len(n)-1)
}

func latvia(n string) bool {
	if n[0] > '3' { // a legal entity
		return weighted(n, 9, 1, 4, 8, 3, 10, 2, 5, 7, 6, 1)%11 == 3
	}
	// A person's: since 2017 it begins with 32 instead of a date.
	born := func() bool { return date(1800+100*digit(n, 6)+number(n[4:6]), number(n[2:4]), number(n[:2])) }
	return (n[:2] == "32" || born()) && (1+weighted(n, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9))%11%10 == digit(n, 10)
}

func netherlands(n string) bool {
	sum := weighted(n, 9, 8, 7, 6, 5, 4, 3, 2) - digit(n, 8)
	if sum%11 == 0 && number(n[:9]) > 0 {
		return true
	}
	rest := 0 // ISO/IEC 7064, MOD 97-10, over NL and the number, letters as 10 to 35
	for _, c := range "NL" + n {
		if c >= 'A' {
			rest = (rest*100 + int(c-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(c-'0')) % 97
		}
	}
	return rest == 1
}

func portugal(n string) bool {
	check := 11 - weighted(n, 9, 8, 7, 6, 5, 4, 3, 2)%11
	return n[0] != '0' && check%11%10 == digit(n, 8)
}

func romania(n string) bool {
	padded := strings.Repeat("0", 10-len(n)) + n
	return n[0] != '0' && 10*weighted(padded, 7, 5, 3, 2, 1, 7, 5, 3, 2)%11%10 == digit(padded, 9)
}

func sweden(n string) bool { return n[10:] != "00" && luhn(n[:10]) }

func slovenia(n string) bool {
	check := 11 - weighted(n, 8, 7, 6, 5, 4, 3, 2)%11
	return n[0] != '0' && check != 11 && check%10 == digit(n, 7)
}

func slovakia(n string) bool {
	return n[0] != '0' && strings.IndexByte("234789", n[2]) >= 0 && number(n)%11 == 0 || birth(n)
}

func switzerland(n string) bool {
	check := 11 - weighted(n, 5, 4, 3, 2, 7, 6, 5, 4)%11
	return check != 10 && check%11 == digit(n, 8)
}
