package mapping

import "testing"

func TestPointed(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"1.234.567,89": "1234567.89", "-1.234": "-1234", "0,5": "0.5", " 12 ": "12", "1.23": "", "1234.567": "", ".123": "", "1,2,3": "", "1,234.5": "", "-.123": ""} {
		if got, ok := pointed(in); got != want || ok != (want != "") {
			t.Errorf("%q is %q (%t), want %q", in, got, ok, want)
		}
	}
	for in, want := range map[string]string{"DD.MM.YYYY": "02.01.2006", "YYYY-MM-DD": "2006-01-02", "MM/DD/YYYY": "01/02/2006", "DD.MM.YY": "", "YYYYMMDD HH": "", "": ""} {
		if got := dateForm(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
